# What a check of drawbolt asks of this machine, as root. It reads, and changes
# nothing.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

report() {
  say() { printf 'drawbolt: %s=%s\n' "$1" "$2"; }
  say clock "$(date +%s)"
  [ "$(id -u)" = 0 ] && say root yes
  for tool in useradd usermod userdel flock visudo; do
    command -v "$tool" >/dev/null 2>&1 || say missing "$tool"
  done
  if ! config=$(sshd -T -C user=root,host=localhost,addr=127.0.0.1 2>/dev/null); then
    say krl unreadable
    return
  fi
  krl=$(printf '%s\n' "$config" | sed -n 's/^revokedkeys //p')
  case $krl in
  '' | none) say krl none && return ;;
  esac
  if ! written=$(stat -c %Y -- "$krl" 2>/dev/null); then
    say krl missing
  elif ! list=$(ssh-keygen -Q -l -f "$krl" 2>/dev/null); then
    say krl broken
  else
    say krl there
    say krl_written "$written"
    say krl_revoked "$(printf '%s\n' "$list" | grep -c serial:)"
  fi
}

report
