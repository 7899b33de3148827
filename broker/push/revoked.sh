# Puts a newer list of revoked certificates in the place of the one that sshd
# reads here, as root. Its argument is the number of that list, and the list
# follows below. The old one stays when anything is wrong.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
new=

report() { printf 'drawbolt: %s=%s\n' "$1" "$2"; }

# ended OUTCOME [PROBLEM] says how it went, and ends.
ended() {
  [ -z "$2" ] || report problem "$2"
  report outcome "$1"
  exit 0
}

# number_of LIST prints the number of a list, and nothing for what is none.
number_of() { ssh-keygen -Q -l -f "$1" 2>/dev/null | sed -n 's/^# KRL version \([0-9]\{1,18\}\)$/\1/p' | head -n 1; }

# ours finds the list that sshd reads and refuses one that a bootstrap did not
# make. Only root may be able to put something else in its place.
ours() {
  config=$(sshd -T -C user=root,host=localhost,addr=127.0.0.1 2>/dev/null) || ended failed "sshd's configuration cannot be read"
  revoked=$(printf '%s\n' "$config" | sed -n 's/^revokedkeys //p')
  case $revoked in
  /*) ;;
  *) ended foreign "sshd reads no list of revoked certificates" ;;
  esac
  folder=${revoked%/*}
  fetcher=$folder/fetch-revoked
  { [ -f "$fetcher" ] && [ ! -L "$fetcher" ] && grep -q -x -F -e "revoked='$revoked'" -- "$fetcher"; } ||
    ended foreign "the list that sshd reads is not where a bootstrap puts it"
  [ -n "$(find "$folder" -prune -type d -user 0 ! -perm -020 ! -perm -002)" ] || ended foreign "others than root may change the folder of the list"
  { [ -f "$revoked" ] && [ ! -L "$revoked" ]; } || ended foreign "the list that sshd reads is no file"
}

bring() {
  trap '[ -z "$new" ] || rm -f -- "$new"' EXIT
  trap 'exit 1' HUP INT TERM
  [ "$(id -u)" = 0 ] || ended failed "this account is not root"
  ours
  # One at a time: between the look at the number and the change, no other.
  if command -v flock >/dev/null 2>&1; then
    exec 9<"$fetcher"
    flock -w 20 9 || ended failed "another change of the list goes on"
  fi
  new=$(mktemp "$revoked.XXXXXX") || ended failed "no file can be made beside the list"
  # The owner and the mode of the old one, and then the content of the new one.
  { cp -p -- "$revoked" "$new" && list >"$new"; } 2>/dev/null || ended failed "the list cannot be written"
  [ "$(number_of "$new")" = "$1" ] || ended failed "what arrived is not the list that was sent"
  there=$(number_of "$revoked")
  [ "${there:-0}" -le "$1" ] || ended newer
  mv -f -- "$new" "$revoked" || ended failed "the list cannot be replaced"
  new=
  ended replaced
}
