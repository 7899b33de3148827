set -eu
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset IFS

config=${DRAWBOLT_SSHD_CONFIG:-/etc/ssh/sshd_config}
folder=${DRAWBOLT_FOLDER:-/etc/ssh/drawbolt}
sshd=${DRAWBOLT_SSHD:-$(command -v sshd || echo /usr/sbin/sshd)}
reload=${DRAWBOLT_RELOAD:-}
timer=${DRAWBOLT_TIMER:-}
timer_folder=${DRAWBOLT_TIMER_FOLDER:-}
patience=${DRAWBOLT_WAIT:-120}
principals_folder=${principals_folder:-$folder/principals}

authorities=$folder/user_ca.pub
revoked=$folder/revoked
certificate=$folder/server.pem
fetcher=$folder/fetch-revoked
draft=$folder/.draft
undo=$folder/.undo # what is to be put back when this script does not come to its end
begin='# BEGIN drawbolt'
end='# END drawbolt'
changed=
alone=   # no other run is at work here
working= # there may be something to put back

# Words are for people: when nobody hears them, the work goes on.
say() { printf 'drawbolt: %s\n' "$*" 2>/dev/null || :; }

fail() {
  printf 'drawbolt: %s\n' "$*" >&2 2>/dev/null || :
  exit 1
}

# ended runs whenever the script ends, also by a signal. What it has begun and
# not finished is put back.
ended() {
  status=$?
  trap '' HUP INT TERM
  trap - EXIT
  set +e
  [ -z "$alone" ] || rm -f "$folder/.answer" "$folder/.question" "$draft"
  if [ -n "$working" ] && [ -f "$undo/journal" ]; then
    put_back && say "the old configuration is back" || say "THE OLD CONFIGURATION COULD NOT BE PUT BACK; it is in $undo"
  fi
  exit "$status"
}

# --- changing files, so that they can be put back -----------------------------

# remember keeps what a file is before it is changed.
remember() {
  [ -d "$undo" ] || mkdir -m 700 "$undo"
  count=$(($(ls "$undo" | wc -l) + 1))
  if [ -e "$1" ]; then
    cp -p "$1" "$undo/$count"
    printf 'old %s %s\n' "$count" "$1" >>"$undo/journal"
  else
    : >"$undo/$count"
    printf 'new %s %s\n' "$count" "$1" >>"$undo/journal"
  fi
}

# put FILE MODE writes what it reads to a file, whole or not at all, and leaves
# one alone that has it. It is not to stand behind a pipe: what it notes would be
# lost in a shell of its own.
put() {
  new=$(mktemp "$1.XXXXXX")
  if [ -e "$1" ]; then
    cp -p "$1" "$new"
  fi
  cat >"$new"
  [ -e "$1" ] || chmod "$2" "$new"
  if [ -f "$1" ] && cmp -s "$new" "$1"; then
    rm -f "$new"
    return
  fi
  remember "$1"
  mv -f "$new" "$1"
  changed=yes
  say "wrote $1"
}

# drop removes a file.
drop() {
  if [ -e "$1" ]; then
    remember "$1"
    rm -f "$1"
    changed=yes
    say "removed $1"
  fi
}

# put_back undoes what was changed since the script began, the last first: the
# files that were there, then sshd's configuration, and what is to go last. While
# a configuration counts, everything that it names is there: without the list of
# RevokedKeys, sshd lets nobody in by key.
put_back() {
  sort -k 2,2nr "$undo/journal" >"$undo/order" || return 1
  put_back_those old || return 1
  put_back_those config || return 1
  reload_sshd || return 1
  put_back_those new || return 1
  rm -rf "$undo"
}

put_back_those() {
  while read -r how count path; do
    part=$how
    case $path in "$config" | "$dropin") part=config ;; esac
    [ "$part" = "$1" ] || continue
    if [ "$how" = old ]; then
      cp -p "$undo/$count" "$path.drawbolt" && mv -f "$path.drawbolt" "$path" || return 1
    else
      rm -f "$path" || return 1
    fi
  done <"$undo/order"
}

# keep ends what can be put back. The files that were replaced stay, dated.
keep() {
  rm -f "$undo/order"
  mkdir -p "$folder/backup"
  mv "$undo" "$folder/backup/$(date +%Y%m%dT%H%M%S)-$$"
  working=
}

# --- sshd ---------------------------------------------------------------------

# includes reports whether sshd reads the folder of its fragments for every
# connection: an Include that no Match stands before.
includes() {
  awk -v want="$1/*.conf" -v home="$2" '
    tolower($1) == "match" { exit }
    tolower($1) == "include" {
      for (i = 2; i <= NF; i++) {
        gsub(/"/, "", $i)
        if ($i == want || home != "" && home "/" $i == want) found = 1
      }
    }
    END { exit !found }' "$config"
}

# effective is what sshd makes of its configuration, in general.
effective() {
  "$sshd" -T -f "$config" 2>/dev/null || "$sshd" -T -f "$config" -C user=root,host=localhost,addr=127.0.0.1
}

# setting NAME is the value that counts, of what effective wrote to $settings.
setting() { printf '%s\n' "$settings" | sed -n "s/^$1 //p" | head -n 1; }

# free NAME VALUE refuses to take the place of something that is not ours.
free() {
  now=$(setting "$1")
  case $now in
  '' | none | "$2") ;;
  *) fail "this sshd has $1 $now already, whose place this script would take: enrol the target by hand, or take that away first. Nothing was changed" ;;
  esac
}

# learn_reload finds out how sshd is told to read its configuration again.
learn_reload() {
  [ -z "$reload" ] || return 0
  if [ -d /run/systemd/system ]; then
    for unit in ssh sshd; do
      if systemctl --quiet is-active "$unit.service"; then
        reload="systemctl reload $unit.service"
        return
      fi
    done
    # Begun by a socket: the next one reads the new configuration.
    reload=:
    return
  fi
  for file in /run/sshd.pid /var/run/sshd.pid; do
    if [ -s "$file" ]; then
      reload="kill -HUP \$(cat $file)"
      return
    fi
  done
  fail "it is not known how sshd is told to reload: set DRAWBOLT_RELOAD to the command. Nothing was changed"
}

reload_sshd() {
  "$sshd" -t -f "$config" || return 1
  sh -c "$reload" </dev/null 9<&-
}

# without_ours is sshd's configuration without our lines.
without_ours() {
  awk -v begin="$begin" -v end="$end" '$0 == begin { ours = 1 } !ours { print } $0 == end { ours = 0 }' "$config"
}

our_lines() {
  cat <<END
TrustedUserCAKeys $authorities
AuthorizedPrincipalsFile $principals_folder/%u
RevokedKeys $revoked
END
}

configure() {
  if [ -n "$dropin" ]; then
    { echo "# Made by drawbolt; see $folder."; our_lines; } >"$draft"
    put "$dropin" 644 <"$draft"
  else
    # The first value counts, and a Match lasts to the end: so ours come first.
    { echo "$begin"; our_lines; echo "$end"; without_ours; } >"$draft"
    put "$config" 644 <"$draft"
  fi
}

# --- the list of revoked certificates -----------------------------------------

# quoted writes a value as a shell reads it.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

fetcher_text() {
  cat <<END
#!/bin/sh
# Made by drawbolt: fetches the list of revoked certificates. The old list stays
# when anything is wrong with the new one.
url=$(quoted "$url")
revoked=$(quoted "$revoked")
certificate=$(quoted "$([ -z "$pinned_certificate" ] || echo "$certificate")")
END
  cat <<'END'
set -eu
umask 022
PATH=/usr/local/bin:/usr/bin:/bin
now() { ls -li "$revoked" 2>/dev/null || :; }
was=$(now)
new=$(mktemp "$revoked.XXXXXX")
trap 'rm -f "$new"' EXIT
if command -v curl >/dev/null; then
  curl -fsS --proto '=https' --max-time 40 --max-filesize 67108864 ${certificate:+--cacert "$certificate"} -o "$new" "$url/v1/krl"
else
  wget -q -T 40 -t 1 --max-redirect=0 ${certificate:+--ca-certificate="$certificate"} -O "$new" "$url/v1/krl"
fi
if ! ssh-keygen -Q -l -f "$new" >/dev/null 2>&1; then
  echo "drawbolt: what $url sent is no list of revoked certificates; the old one stays" >&2
  exit 1
fi
[ "$(now)" = "$was" ] || exit 0 # a newer one may have been pushed meanwhile
chmod 644 "$new"
mv -f "$new" "$revoked"
END
}

# plan_timer decides what has the list fetched.
plan_timer() {
  if [ -z "$timer" ]; then
    timer=cron
    [ ! -d /run/systemd/system ] || timer=systemd
  fi
  case $timer in
  systemd) timer_folder=${timer_folder:-/etc/systemd/system} ;;
  cron) timer_folder=${timer_folder:-/etc/cron.d} ;;
  none) return ;;
  *) fail "DRAWBOLT_TIMER is systemd, cron or none. Nothing was changed" ;;
  esac
  [ -d "$timer_folder" ] || fail "there is no $timer_folder for a timer: install cron, or set DRAWBOLT_TIMER=none and have $fetcher run every minute. Nothing was changed"
}

put_timer() {
  case $timer in
  systemd)
    put "$timer_folder/drawbolt-revoked.service" 644 <<END
[Unit]
Description=Fetch the list of revoked certificates from drawbolt
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh $fetcher
END
    put "$timer_folder/drawbolt-revoked.timer" 644 <<END
[Unit]
Description=Fetch the list of revoked certificates from drawbolt every minute

[Timer]
OnBootSec=10s
OnUnitActiveSec=1min
AccuracySec=5s

[Install]
WantedBy=timers.target
END
    ;;
  cron)
    put "$timer_folder/drawbolt-revoked" 644 <<END
# Made by drawbolt: fetches the list of revoked certificates.
* * * * * root /bin/sh $fetcher
END
    ;;
  esac
}

start_timer() {
  [ "$timer" != systemd ] || { systemctl daemon-reload && systemctl enable --quiet --now drawbolt-revoked.timer; } ||
    fail "drawbolt-revoked.timer cannot be started: until it is, no new list of revoked certificates comes here"
}

stop_timer() {
  if [ -e "$timer_folder/drawbolt-revoked.timer" ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now drawbolt-revoked.timer || :
  fi
}

# --- the proof ----------------------------------------------------------------

# host_keys writes the public halves of sshd's keys, a list in JSON.
host_keys() {
  printf '%s\n' "$settings" | sed -n 's/^hostkey //p' | while read -r file; do
    ssh-keygen -y -f "$file" </dev/null 2>/dev/null || cat "$file.pub" 2>/dev/null || :
  done | awk '$1 ~ /^[a-z0-9@.-]+$/ && $1 != "ssh-dss" && $2 ~ /^[A-Za-z0-9+\/=]+$/ { printf "%s\"%s %s\"", comma, $1, $2; comma = "," }'
}

# ask has drawbolt log in, and leaves its answer in .answer. It fails when there
# is none.
ask() {
  rm -f "$folder/.answer"
  if command -v curl >/dev/null; then
    status=$(curl -sS --proto '=https' --max-time 40 ${pinned_certificate:+--cacert "$certificate"} -H 'Content-Type: application/json' \
      --data-binary @"$folder/.question" -o "$folder/.answer" -w '%{http_code}' "$url/v1/bootstrap")
  else
    wget -q -T 40 -t 1 --max-redirect=0 ${pinned_certificate:+--ca-certificate="$certificate"} --header='Content-Type: application/json' \
      --post-file="$folder/.question" --content-on-error -O "$folder/.answer" "$url/v1/bootstrap" || [ -s "$folder/.answer" ] || return 1
    status=unknown
  fi
}

# prove waits until drawbolt has logged in. Nobody at this machine can say so in
# its place: the answer comes over TLS, from the server that is pinned.
prove() {
  (umask 077 && printf '{"token":"%s","host_keys":[%s]}' "$token" "$(host_keys)" >"$folder/.question")
  deadline=$(($(date +%s) + patience))
  pause=2
  say "waiting for drawbolt to log in, for at most $patience seconds"
  while :; do
    if ask; then
      read -r first <"$folder/.answer" || first=
      if [ "$first" = proven ]; then
        say "drawbolt has logged in"
        sed '1d; s/^/drawbolt: still to be mended: /' "$folder/.answer"
        return 0
      fi
      if [ "$first" != 'not proven' ]; then
        say "drawbolt answers ($status): $(head -c 500 "$folder/.answer" | tr -cd ' -~')"
      fi
      case $status in 401 | 403 | 404 | 422) return 1 ;; esac
    fi
    if [ "$(date +%s)" -ge "$deadline" ]; then
      [ ! -s "$folder/.answer" ] || sed '1d; s/^/drawbolt: /' "$folder/.answer"
      return 1
    fi
    # An sshd of today shuts out who fails too often.
    sleep "$pause"
    [ "$pause" -ge 16 ] || pause=$((pause * 2))
  done
}

# --- what it does -------------------------------------------------------------

prepare() {
  [ "$(id -u)" = 0 ] || fail "this must run as root"
  # They stand in sshd's configuration and in commands without quotes.
  for path in "$config" "$folder" "$principals_folder" "$timer_folder"; do
    case $path in
    *[!A-Za-z0-9/._-]*) fail "$path has a character that is not taken: letters, digits and /._- are" ;;
    /* | '') ;;
    *) fail "$path must begin with /" ;;
    esac
  done
  case $patience in '' | *[!0-9]*) fail "DRAWBOLT_WAIT is a number of seconds" ;; esac
  [ -f "$config" ] || fail "there is no $config"
  for tool in "$sshd" ssh-keygen awk sed mktemp cmp; do
    command -v "$tool" >/dev/null || fail "there is no $tool here"
  done
  command -v curl >/dev/null || command -v wget >/dev/null || fail "there is neither curl nor wget here"
  home=
  [ "$(dirname "$config")" != /etc/ssh ] || home=/etc/ssh
  dropin=
  if [ -d "$config.d" ] && includes "$config.d" "$home"; then
    dropin=$config.d/10-drawbolt.conf
  fi
  trap ended EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap '' PIPE
  learn_reload
  # One at a time. Where there is no flock, that is for whoever runs this.
  exec 9<"$config"
  ! command -v flock >/dev/null || flock -n 9 || fail "another run of this script is at work here"
  alone=yes
  # An earlier run that was cut off.
  if [ -f "$undo/journal" ]; then
    put_back || fail "what an earlier run has left in $undo cannot be put back"
  fi
  rm -rf "$undo"
  # Where sshd is begun by a socket, this folder is not there yet.
  "$sshd" -t -f "$config" 2>/dev/null || mkdir -p -m 755 /run/sshd
  "$sshd" -t -f "$config" || fail "sshd does not take its configuration as it is. Nothing was changed"
}

# lines_of PRINCIPAL FILE are the lines of it, whatever options stand before.
lines_of() { awk -v principal="$1" '$NF == principal' "$2"; }

set_up() {
  prepare
  plan_timer
  settings=$(effective)
  free trustedusercakeys "$authorities"
  free authorizedprincipalsfile "$principals_folder/%u"
  free revokedkeys "$revoked"
  mkdir -p "$folder" "$principals_folder"
  working=yes
  if [ -n "$pinned_certificate" ]; then
    put "$certificate" 644 <<END
$pinned_certificate
END
  fi
  fetcher_text >"$draft"
  put "$fetcher" 755 <"$draft"
  # The list must be there before sshd is told of it.
  if [ ! -e "$revoked" ]; then
    remember "$revoked"
    changed=yes
  fi
  sh "$fetcher" </dev/null || ssh-keygen -Q -l -f "$revoked" >/dev/null 2>&1 || fail "the list of revoked certificates cannot be fetched from $url"
  put "$authorities" 644 <<END
$authority_keys
END
  while read -r account principal; do
    [ -n "$account" ] || continue
    id "$account" >/dev/null 2>&1 || say "there is no account $account here yet"
    # Other lines of an account stay, and so does this one with options before it.
    file=$principals_folder/$account
    if [ ! -f "$file" ] || [ "$(lines_of "$principal" "$file" | wc -l)" = 0 ]; then
      { [ ! -f "$file" ] || cat "$file"; echo "$principal"; } >"$draft"
      put "$file" 644 <"$draft"
    fi
  done <<END
$logins
END
  put_timer
  configure
  if [ -z "$changed" ]; then
    rm -rf "$undo"
    working=
    start_timer
    say "everything is in place; nothing was changed"
    return
  fi
  "$sshd" -t -f "$config" || fail "sshd does not take its new configuration"
  settings=$(effective)
  [ "$(setting trustedusercakeys)" = "$authorities" ] || fail "sshd does not read what was written for it"
  reload_sshd || fail "sshd cannot be told to reload"
  prove || fail "drawbolt could not log in to $target"
  keep
  start_timer
  say "$target is enrolled; what was replaced is in $folder/backup"
}

take_away() {
  prepare
  plan_timer
  if [ ! -d "$folder" ]; then
    say "nothing of drawbolt is here"
    return
  fi
  working=yes
  if [ -n "$dropin" ]; then drop "$dropin"; fi
  if grep -qxF "$begin" "$config"; then
    without_ours >"$draft"
    put "$config" 644 <"$draft"
  fi
  reload_sshd || fail "sshd cannot be told to reload"
  # From here on nobody reads what is removed.
  stop_timer
  for file in drawbolt-revoked drawbolt-revoked.service drawbolt-revoked.timer; do
    [ "$timer" = none ] || drop "$timer_folder/$file"
  done
  drop "$authorities"
  drop "$revoked"
  drop "$certificate"
  drop "$fetcher"
  while read -r account principal; do
    file=$principals_folder/$account
    if [ -z "$account" ] || [ ! -f "$file" ]; then continue; fi
    awk -v principal="$principal" '$NF != principal' "$file" >"$draft"
    if [ -s "$draft" ]; then
      put "$file" 644 <"$draft"
    else
      drop "$file"
    fi
  done <<END
$logins
END
  rmdir "$principals_folder" 2>/dev/null || :
  if [ -n "$changed" ]; then
    keep
    say "drawbolt is gone from here; what was removed is in $folder/backup"
  else
    working=
    say "nothing of drawbolt is here"
  fi
}

main() {
  case "${1:-}" in
  '') set_up ;;
  --uninstall) take_away ;;
  *) fail "usage: sh FILE [--uninstall]" ;;
  esac
}

# The last line: a script that came in part does nothing.
main "$@"
