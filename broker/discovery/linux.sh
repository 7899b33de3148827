# Says which accounts there are on this machine and how it is set up: one line a
# thing, fields behind tabs, what others may have written last. It changes nothing,
# and no hash of a password leaves the machine. Its arguments are names of kernel
# settings. Each part is bounded: what is cut off is said.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
t=$(printf '\t')
has() { command -v "$1" >/dev/null 2>&1; }
# within SECONDS COMMAND...: broken off when it takes longer.
if has timeout; then within() { timeout "$@"; }; else within() { shift; "$@"; }; fi
# bounded NAME LINES BYTES: passes on so many lines, each so long, and says when there were more.
bounded() {
  awk -v name="$1" -v lines="$2" -v bytes="$3" '
    NR > lines { print "cut\t" name; exit }
    length($0) > bytes { if (!said) print "cut\t" name; said = 1; next }
    { print }'
}

echo "drawbolt${t}1"
echo "now${t}$(date +%s)"
echo "uid${t}$(id -u)"
echo "kernel${t}$(uname -r)"
if [ -r /etc/os-release ]; then sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/os\t\1/p' /etc/os-release | head -n 1; fi

# Accounts. A password is said to be set, locked or none.
awk -F: '{
  p = $2 == "x" ? "shadow" : $2 == "" ? "none" : $2 ~ /^[!*]/ ? "locked" : "set"
  print "passwd\t" $1 "\t" $3 "\t" $4 "\t" p "\t" $6 "\t" $7 "\t" $5
}' /etc/passwd | bounded passwd 5000 2000
if [ -r /etc/shadow ]; then
  awk -F: '{
    p = $2 == "" ? "none" : $2 ~ /^[!*]/ ? "locked" : "set"
    print "shadow\t" $1 "\t" p "\t" $3 "\t" $5 "\t" $8
  }' /etc/shadow | bounded shadow 5000 300
fi
awk -F: '{ print "group\t" $1 "\t" $3 "\t" $4 }' /etc/group | bounded group 2000 16000

# Who may become whom. A line that goes on is joined here.
lines() {
  awk '{ if (sub(/\\$/, "")) { held = held $0; next } print held $0; held = "" } END { if (held != "") print held }' "$1"
}
sudoers() { # FILE DEPTH
  [ -f "$1" ] && [ "$2" -lt 6 ] || return 0
  lines "$1" | while IFS= read -r line; do
    case $line in
      '#includedir '* | '@includedir '*)
        folder=${line#?includedir }
        for each in "$folder"/*; do
          case ${each##*/} in *.* | *~) continue ;; esac
          sudoers "$each" $(($2 + 1))
        done ;;
      '#include '* | '@include '*) sudoers "${line#?include }" $(($2 + 1)) ;;
      '' | '#' | '#'[!0-9]*) ;;
      *) printf 'sudoers\t%s\t%s\n' "$1" "$line" ;;
    esac
  done
}
sudoers /etc/sudoers 0 | bounded sudoers 2000 4000

# sshd, as the one runs that let us in.
config=/etc/ssh/sshd_config
process=$$
while [ "${process:-0}" -gt 1 ]; do
  process=$(awk '$1 == "PPid:" { print $2 }' "/proc/$process/status" 2>/dev/null)
  [ "$(awk '$1 == "Uid:" { print $2 }' "/proc/${process:-0}/status" 2>/dev/null)" = 0 ] || continue
  line=$(tr '\0' ' ' <"/proc/$process/cmdline" 2>/dev/null)
  case $line in
    *sshd*' -f '*) config=${line##* -f }; config=${config%% *}; break ;;
  esac
done
settings=
if has sshd; then settings=$(sshd -T -f "$config" 2>/dev/null); fi
echo "$settings" | awk 'NF > 1 { key = $1; sub(/^[^ ]* /, ""); print "sshd\t" key "\t" $0 }' | bounded sshd 300 4000
setting() { echo "$settings" | awk -v key="$1" '$1 == key { sub(/^[^ ]* /, ""); print; exit }'; }
matches=$(grep -ic '^[[:space:]]*match[[:space:]]' "$config" 2>/dev/null)
echo "matches${t}${matches:-0}"
if [ "${matches:-0}" -gt 0 ]; then
  { echo root; awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow 2>/dev/null; } | sort -u | head -n 50 | while IFS= read -r user; do
    sshd -T -f "$config" -C "user=$user,host=unknown.invalid,addr=192.0.2.1" 2>/dev/null |
      awk -v user="$user" '$1 ~ /^(passwordauthentication|kbdinteractiveauthentication|permitrootlogin|permitemptypasswords)$/ { print "sshd-user\t" user "\t" $1 "\t" $2 }'
  done
fi
# keys NAME FILE: the public keys that stand in a file, and nothing else of it.
keys() {
  [ -f "$2" ] || return 0
  head -c 200000 "$2" | grep -E '(^|[[:space:]])(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[a-z0-9@.-]+[[:space:]]+AAAA' | awk -v name="$1" '!/^[[:space:]]*#/ { print "key\t" name "\t" $0 }' | bounded keys 200 8000
}
case $(setting trustedusercakeys) in
  '' | none) ;;
  *) keys '' "$(setting trustedusercakeys)" ;;
esac
places=$(setting authorizedkeysfile)
[ -n "$places" ] || places='.ssh/authorized_keys .ssh/authorized_keys2'
[ "$places" != none ] || places=
awk -F: '{ print $1 ":" $6 }' /etc/passwd | head -n 5000 | while IFS=: read -r user home; do
  for place in $places; do
    file=$(echo "$place" | awk -v h="$home" -v u="$user" '{ gsub(/%h/, h); gsub(/%u/, u); print }')
    case $file in /*) ;; *) file=$home/$file ;; esac
    keys "$user" "$file"
  done
done | bounded keys 3000 8100

# Last logins.
if has lastlog2; then
  lastlog2 2>/dev/null | awk 'NR > 1 && !/Never logged in/ { print }' | head -n 2000 | while read -r user rest; do
    case $rest in *[A-Z][a-z][a-z]' '[A-Z][a-z][a-z]' '*)
      moment=$(echo "$rest" | sed -n 's/.*\([A-Z][a-z][a-z] [A-Z][a-z][a-z] .*\)$/\1/p')
      moment=$(date -d "$moment" +%s 2>/dev/null) && printf 'login\t%s\t%s\n' "$user" "$moment" ;;
    esac
  done
  echo "known${t}logins"
elif [ -r /var/log/lastlog ]; then
  # 292 bytes an account, at the place of its number, of which the first four are the time.
  awk -F: '$3 < 2000000 { print $1 ":" $3 }' /etc/passwd | head -n 1000 | while IFS=: read -r user uid; do
    moment=$(dd if=/var/log/lastlog bs=292 skip="$uid" count=1 2>/dev/null | od -An -tu4 -N4 | tr -d ' ')
    [ "${moment:-0}" = 0 ] || printf 'login\t%s\t%s\n' "$user" "$moment"
  done
  echo "known${t}logins"
fi

# Programs that run as somebody else. Names are made one line each.
# Each file system once; those on which this has no effect not at all.
roots=$({
  printf '%s\n' /bin /sbin /usr /opt /srv /home /root /var /tmp /etc
  awk '$2 != "/" && $2 !~ /\\/ && $3 ~ /^(ext[234]|xfs|btrfs|f2fs|zfs|tmpfs|overlay)$/ && $4 !~ /(^|,)nosuid(,|$)/ { print $2 }' /proc/mounts | head -n 50
} | sort -u)
IFS='
'
{
  within 20 find $roots -xdev -type f -perm -4000 -print0 2>/dev/null
  [ $? != 124 ] || printf 'broken off\000'
} | tr '\n\000' '?\n' | sed "s/^/setuid$t/" | bounded setuid 500 500
unset IFS
[ ! -r /proc/net/tcp ] || awk '$4 == "0A" { print "listen\t" $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null | sort -u | bounded listen 500 200

# How it is kept.
if has apt-get; then
  pending=$(within 30 apt-get -s -o Debug::NoLocking=true upgrade 2>/dev/null) &&
    echo "fact${t}pending-updates${t}$(echo "$pending" | grep -c '^Inst')" &&
    echo "fact${t}security-updates${t}$(echo "$pending" | grep -c '^Inst.*[Ss]ecurity')"
elif has dnf; then
  pending=$(within 30 dnf -q -C check-update 2>/dev/null)
  [ $? = 0 ] || [ $? = 100 ] && echo "fact${t}pending-updates${t}$(echo "$pending" | awk 'NF == 3' | wc -l)"
fi
if [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; then
  echo "fact${t}reboot-needed${t}yes"
elif [ -d /lib/modules ] && [ -n "$(ls -A /lib/modules)" ] && [ ! -d "/lib/modules/$(uname -r)" ]; then
  echo "fact${t}reboot-needed${t}yes"
else
  echo "fact${t}reboot-needed${t}no"
fi
if has lastb; then echo "fact${t}failed-logins${t}$(within 10 lastb -w -s -1days 2>/dev/null | grep -c '^[^ ].* ')"
elif has journalctl; then echo "fact${t}failed-logins${t}$(within 10 journalctl -q -t sshd -t sshd-session --since -1day 2>/dev/null | grep -c -e 'Failed ' -e 'Invalid user')"
fi
fence=
if has nft && rules=$(within 10 nft list ruleset 2>/dev/null); then
  fence=no
  case $rules in *'hook input'*) fence=yes ;; esac
fi
if [ "$fence" != yes ] && has iptables && rules=$(within 10 iptables -S INPUT 2>/dev/null); then
  fence=no
  [ "$rules" = '-P INPUT ACCEPT' ] || fence=yes
fi
[ -z "$fence" ] || echo "fact${t}firewall${t}$fence"
if [ -d /sys/block ]; then
  if cat /sys/block/dm-*/dm/uuid 2>/dev/null | grep -q '^CRYPT-'; then echo "fact${t}disk-encryption${t}yes"; else echo "fact${t}disk-encryption${t}no"; fi
fi
for name; do
  file=/proc/sys/$(echo "$name" | tr . /)
  [ ! -r "$file" ] || printf 'sysctl\t%s\t%s\n' "$name" "$(head -c 200 "$file" | tr '\t\n' '  ' | sed 's/ *$//')"
done
echo "end${t}of the scan"
