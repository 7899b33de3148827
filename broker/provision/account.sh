# This is sent to "sh -s -- create|remove ARGUMENTS" at a target, as root. Nothing
# is done before the last line has come, which calls main: a connection that is
# cut leaves no half of it running. Values come as arguments and are only ever
# used in quotes. Each step may be done again after it was broken off anywhere.
#
# It answers with lines "drawbolt: KEY=VALUE"; "outcome" is the last one:
# present, gone, foreign (there is an account of that name which is not ours; it
# was not touched) or failed.
#
# An account is ours when its GECOS field says "drawbolt GRANT", or when the note
# in $notes, which only root writes, has its grant and uid; and its uid is 1000
# or more.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset IFS
notes=/var/lib/drawbolt/accounts
tmp=
said=
doing=begin

say() { printf 'drawbolt: %s\n' "$1"; }

fail() {
	said=yes
	say "problem=$1"
	say outcome=failed
	exit 1
}

foreign() {
	said=yes
	say outcome=foreign
	exit 3
}

# ended has the last word when a command failed.
ended() {
	status=$?
	if [ -n "$tmp" ]; then rm -f "$tmp"; fi
	if [ "$status" -ne 0 ] && [ -z "$said" ]; then
		say "problem=could not $doing"
		say outcome=failed
	fi
}

# enter checks the arguments that both steps have, and takes the lock.
enter() {
	case $login in '' | [!a-z_]* | *[!a-z0-9_-]*) fail "the login is not one" ;; esac
	case $grant in GRA-*[!a-z0-9]* | GRA- | [!G]* | '') fail "the grant is not one" ;; esac
	case $folder in - | /*) ;; *) fail "the folder is not one" ;; esac
	[ "$(id -u)" = 0 ] || fail "the provisioner is not root here"
	command -v flock >/dev/null || fail "there is no flock here"
	doing="make the folder of notes"
	mkdir -p "$notes"
	chmod 700 "$notes"
	exec 9>"$notes/.lock"
	flock -w 30 9 || fail "another step has the lock"
	# What a step left that was killed while it wrote.
	rm -f "$notes"/.drawbolt.* /etc/sudoers.d/.drawbolt.*
	if [ "$folder" != - ]; then rm -f "$folder"/.drawbolt.*; fi
}

entry() { getent passwd "$login"; }

exists() { entry >/dev/null; }

field() { entry | cut -d: -f"$1"; }

# noted sets uid and home from the note of this grant, if there is one.
noted() {
	uid= home= of=
	if [ -f "$notes/$login" ]; then
		read -r of uid home <"$notes/$login" || true
	fi
	[ -n "$of" ] && [ "$of" = "$grant" ] && [ -n "$uid" ] && [ "$uid" -ge 1000 ]
}

ours() {
	now=$(field 3)
	[ "$now" -ge 1000 ] || return 1
	full=$(field 5)
	[ "${full%%,*}" = "drawbolt $grant" ] && return 0
	noted && [ "$uid" = "$now" ]
}

# put PATH MODE TEXT writes a line to a file, whole or not at all.
put() {
	tmp=$(mktemp "${1%/*}/.drawbolt.XXXXXX")
	printf '%s\n' "$3" >"$tmp"
	chmod "$2" "$tmp"
	chown 0:0 "$tmp"
	mv -f "$tmp" "$1"
	tmp=
}

create() {
	login=$1 grant=$2 folder=$3 shell=$4 groups=$5 principal=$6
	shift 6
	if [ "$groups" = - ]; then groups=; fi
	enter
	[ -x "$shell" ] || fail "there is no shell $shell here"
	if exists; then
		ours || foreign
		doing="change the account"
		usermod --groups "$groups" --shell "$shell" --expiredate '' "$login"
	else
		if getent group "$login" >/dev/null; then foreign; fi
		if [ -e "/home/$login" ] || [ -L "/home/$login" ]; then fail "there is a home of that name already"; fi
		doing="make the account"
		# "*" is no password; "!" would be a locked account, which sshd refuses.
		useradd --create-home --home-dir "/home/$login" --user-group --groups "$groups" --shell "$shell" \
			--comment "drawbolt $grant" --password '*' "$login"
	fi
	uid=$(field 3) home=$(field 6)
	[ "$uid" -ge 1000 ] || fail "the account has a uid of the system"
	doing="write the note"
	put "$notes/$login" 600 "$grant $uid $home"
	doing="make the home"
	if [ ! -d "$home" ]; then
		mkdir "$home"
		chown "$uid:$(field 4)" "$home"
	fi
	chmod 700 "$home"
	sudoers "$@"
	if [ "$folder" != - ]; then
		doing="write the principals"
		[ -d "$folder" ] || fail "there is no folder of principals here"
		put "$folder/$login" 644 "$principal"
	fi
	say "uid=$uid"
	say outcome=present
}

# sudoers LINES writes the fragment; sudo reads no file with a dot in its name,
# so that it sees only one that visudo has found good.
sudoers() {
	doing="write what sudo allows"
	if [ $# -eq 0 ]; then
		rm -f "/etc/sudoers.d/drawbolt-$login"
		return 0
	fi
	command -v visudo >/dev/null || fail "there is no visudo here"
	tmp=$(mktemp /etc/sudoers.d/.drawbolt.XXXXXX)
	for line; do
		printf '%s %s\n' "$login" "$line"
	done >"$tmp"
	chmod 440 "$tmp"
	chown 0:0 "$tmp"
	visudo -c -q -f "$tmp" >/dev/null || fail "visudo refuses the lines for sudo"
	mv -f "$tmp" "/etc/sudoers.d/drawbolt-$login"
	tmp=
}

remove() {
	login=$1 grant=$2 folder=$3 keep=$4
	enter
	if exists; then
		ours || foreign
		uid=$(field 3) home=$(field 6)
		# Noted before anything goes, so that a removal that is broken off is
		# known for ours when it is done again.
		put "$notes/$login" 600 "$grant $uid $home"
		doing="lock the account"
		usermod --lock --expiredate 1 "$login"
	elif ! noted; then
		say outcome=gone
			return 0
	fi
	doing="take the principals away"
	if [ "$folder" != - ]; then rm -f "$folder/$login"; fi
	doing="take away what sudo allows"
	rm -f "/etc/sudoers.d/drawbolt-$login"
	doing="end what the account runs"
	jobs_away
	end_all
	if exists; then
		doing="remove the account"
		userdel "$login"
	fi
	doing="remove what the account left"
	jobs_away
	for place in /tmp /var/tmp /dev/shm; do
		if [ -d "$place" ]; then find "$place" -xdev -depth -mindepth 1 -user "$uid" -delete 2>/dev/null || true; fi
	done
	home_away
	if exists; then fail "the account is still there"; fi
	rm -f "$notes/$login"
	say "uid=$uid"
	say outcome=gone
}

jobs_away() {
	rm -f "/var/spool/cron/crontabs/$login" "/var/spool/cron/$login" "/var/spool/cron/tabs/$login" \
		"/var/lib/systemd/linger/$login" "/var/mail/$login"
	for place in /var/spool/cron/atjobs /var/spool/at; do
		if [ -d "$place" ]; then find "$place" -xdev -type f -user "$uid" -delete; fi
	done
}

# end_all kills what runs as the account, and what was begun in its logins and
# runs as somebody else, as far as the kernel's login uid tells.
end_all() {
	round=0
	while left=$(processes) && [ -n "$left" ]; do
		round=$((round + 1))
		[ "$round" -le 50 ] || fail "processes of the account do not end"
		for id in $left; do kill -KILL "$id" 2>/dev/null || true; done
		sleep 0.1 2>/dev/null || sleep 1
	done
}

processes() {
	for p in /proc/[0-9]*; do
		mine=
		{
			while read -r key real effective saved file rest; do
				case $key in
				State:) if [ "$real" = Z ]; then break; fi ;;
				Uid:)
					case " $real $effective $saved $file " in *" $uid "*) mine=yes ;; esac
					if [ -z "$mine" ] && read -r by <"$p/loginuid" && [ "$by" = "$uid" ]; then mine=yes; fi
					break
					;;
				esac
			done <"$p/status"
		} 2>/dev/null || true
		if [ -n "$mine" ]; then printf '%s\n' "${p#/proc/}"; fi
	done
}

# home_away removes the home, or puts it where only root comes: the next account
# may get the same uid. It is the one that useradd was told, and nothing else.
home_away() {
	if [ "$home" != "/home/$login" ] || [ ! -e "$home" ]; then return 0; fi
	if [ "$keep" = keep ] && [ -d "$home" ] && [ ! -L "$home" ]; then
		mkdir -p /home/.drawbolt-kept
		chmod 700 /home/.drawbolt-kept
		rm -rf "/home/.drawbolt-kept/$login-$grant"
		chown 0:0 "$home"
		mv "$home" "/home/.drawbolt-kept/$login-$grant"
		say "kept=/home/.drawbolt-kept/$login-$grant"
	else
		rm -rf --one-file-system "$home"
	fi
}

main() {
	trap ended EXIT
	step=$1
	shift
	case $step in
	create) create "$@" ;;
	remove) remove "$@" ;;
	*) fail "there is no step $step" ;;
	esac
}

main "$@" </dev/null
