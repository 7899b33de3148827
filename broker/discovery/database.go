package discovery

import (
	"slices"
	"strings"
	"time"
)

// A Role is one of PostgreSQL's, as its catalogue has it.
type Role struct {
	Name                                                       string
	Super, CreateRole, CreateDB, Replication, BypassRLS, Login bool
	Password                                                   string // a state; "": not told
	ValidUntil                                                 time.Time
}

// powerful are roles of PostgreSQL whose members may do everything on the machine, or
// see everything.
var powerful = map[string]Right{
	"pg_execute_server_program": {Text: "runs programs on the server's machine", Full: true},
	"pg_write_server_files":     {Text: "writes files of the server's machine", Full: true},
	"pg_read_server_files":      {Text: "reads files of the server's machine", Full: true},
	"pg_read_all_data":          {Text: "reads all data"},
	"pg_write_all_data":         {Text: "changes all data"},
}

// FromPostgreSQL makes a scan of the roles of a server and of who is a member of which:
// pairs of a member and a role. Memberships count through others.
func FromPostgreSQL(version string, now time.Time, roles []Role, members [][2]string) Scan {
	s := Scan{Kind: PostgreSQL, At: now, System: clean("PostgreSQL " + version), Settings: map[string]string{}}
	byName, of := map[string]*Role{}, map[string][]string{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
	}
	for _, m := range members {
		of[m[0]] = append(of[m[0]], m[1])
	}
	for _, r := range roles {
		if len(s.Accounts) >= maxAccounts {
			s.incomplete("accounts")
			break
		}
		if r.Name != clean(r.Name) {
			s.incomplete("accounts with odd names")
			continue
		}
		a := Account{Name: r.Name, Password: r.Password, Disabled: !r.Login || !r.ValidUntil.IsZero() && !now.Before(r.ValidUntil), NeverExpires: r.Login && r.ValidUntil.IsZero()}
		if strings.HasPrefix(r.Name, "pg_") {
			continue // the server's own, which nobody logs in with
		}
		a.Rights = r.rights("itself")
		for _, up := range above(r.Name, of) {
			if len(a.Groups) >= maxRights || len(a.Rights) >= maxRights {
				s.incomplete("roles of one account")
				break
			}
			a.Groups = append(a.Groups, clean(up))
			if right, ok := powerful[up]; ok {
				right.Source = "role " + up
				a.Rights = append(a.Rights, right)
			} else if via := byName[up]; via != nil {
				a.Rights = append(a.Rights, via.rights("role "+clean(up))...) // with SET ROLE
			}
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s
}

func (r *Role) rights(source string) (list []Right) {
	for _, x := range []struct {
		has bool
		Right
	}{
		{r.Super, Right{Text: "is a superuser", Full: true}},
		{r.Replication, Right{Text: "reads everything by replication", Full: true}},
		{r.CreateRole, Right{Text: "makes and changes roles"}},
		{r.BypassRLS, Right{Text: "is not held back by row security"}},
		{r.CreateDB, Right{Text: "makes databases"}},
	} {
		if x.has {
			x.Source = source
			list = append(list, x.Right)
		}
	}
	return list
}

// above are the roles of which a name is a member, through others too, each once.
func above(name string, of map[string][]string) (list []string) {
	seen := map[string]bool{name: true}
	for queue := []string{name}; len(queue) > 0 && len(list) < maxAccounts; queue = queue[1:] {
		for _, up := range of[queue[0]] {
			if !seen[up] {
				seen[up] = true
				list, queue = append(list, up), append(queue, up)
			}
		}
	}
	slices.Sort(list)
	return list
}

// A DatabaseUser is one of MySQL's or MariaDB's.
type DatabaseUser struct {
	User, Host, Plugin string
	Password           string // a state
	Locked             bool
	Privileges         []string // on everything
	Grants             bool     // it may give these to others
}

// FromMySQL makes a scan of the users of a server of MySQL or MariaDB. An account is
// named user@host.
func FromMySQL(version string, now time.Time, users []DatabaseUser) Scan {
	s := Scan{Kind: MySQL, At: now, System: clean(version), Settings: map[string]string{}}
	for _, u := range users {
		name := u.User + "@" + u.Host
		if name != clean(name) {
			s.incomplete("accounts with odd names")
			continue
		}
		if len(s.Accounts) >= maxAccounts {
			s.incomplete("accounts")
			break
		}
		a := Account{Name: name, Comment: clean(u.Plugin), Password: u.Password, Disabled: u.Locked, Hosts: []string{u.Host}}
		if strings.Contains(u.Plugin, "socket") || u.Plugin == "named_pipe" {
			a.Password, a.Service = PasswordLocked, "it gets in from the server's machine only"
		}
		if strings.HasPrefix(u.User, "mysql.") || strings.HasPrefix(u.User, "mariadb.") {
			a.Service = "it is the server's own"
		}
		has := func(words ...string) bool {
			return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(u.Privileges, w) })
		}
		for _, x := range []struct {
			has bool
			Right
		}{
			{has("SUPER", "SET USER", "SYSTEM_USER", "CONNECTION ADMIN"), Right{Text: "is a superuser", Full: true}},
			{u.Grants, Right{Text: "gives its rights to others", Full: has("SUPER", "CREATE USER")}},
			{has("CREATE USER"), Right{Text: "makes and changes users", Full: true}},
			{has("FILE"), Right{Text: "reads and writes files of the server's machine", Full: true}},
			{has("SELECT") && has("INSERT", "UPDATE", "DELETE"), Right{Text: "reads and changes all data"}},
			{has("SHUTDOWN"), Right{Text: "ends the server"}},
			{has("PROCESS"), Right{Text: "sees what others do"}},
		} {
			if x.has {
				x.Source = "global privileges"
				a.Rights = append(a.Rights, x.Right)
			}
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s
}
