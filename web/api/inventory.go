package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A FoundAccount is one that a scan has found on a target.
type FoundAccount struct {
	ID        string     `json:"id"`
	Target    string     `json:"target"`
	Name      string     `json:"name"`
	Class     string     `json:"class"` // "managed", "emergency", "orphaned", "dormant", "shared", "service" or "unmanaged"
	Risk      string     `json:"risk"`  // "critical", "high", "medium" or "low"
	Owner     string     `json:"owner,omitempty"`
	Declared  string     `json:"declared,omitempty"` // what somebody said it is
	Note      string     `json:"note,omitempty"`
	Reasons   []string   `json:"reasons"`
	FirstSeen time.Time  `json:"first_seen"`
	LastSeen  time.Time  `json:"last_seen"`
	GoneAt    *time.Time `json:"gone_at,omitempty"`
	// What the target says of it.
	Password  string       `json:"password,omitempty"` // "set", "none" or "locked"
	Disabled  bool         `json:"disabled,omitempty"`
	Shell     string       `json:"shell,omitempty"`
	LastLogin *time.Time   `json:"last_login,omitempty"`
	Groups    []string     `json:"groups,omitempty"`
	Rights    []FoundRight `json:"rights,omitempty"`
	Keys      []FoundKey   `json:"keys,omitempty"`
	Ways      []Way        `json:"ways,omitempty"` // of one account alone
}

// A FoundRight is something an account may do.
type FoundRight struct {
	Text   string `json:"text"`
	Full   bool   `json:"full"` // it is, or leads to, everything
	Source string `json:"source"`
}

// A FoundKey is a public key that opens an account.
type FoundKey struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Options     string `json:"options,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

// A Way leads to a target past the bastion.
type Way struct {
	Kind    string `json:"kind"`
	Account string `json:"account,omitempty"` // none: the target itself
	Text    string `json:"text"`
	Risk    string `json:"risk"`
	Command string `json:"command"` // closes it, typed at the target by an administrator
}

// A Fault is a setting of a target that is not as the profile wants it.
type Fault struct {
	ID     string `json:"id"`
	Title  string `json:"title"` // what should hold
	Is     string `json:"is"`
	Wants  string `json:"wants"`
	Weight int    `json:"weight"`
	Mend   string `json:"mend"` // command that mends it
}

// A Posture is how a target stands by its last scan.
type Posture struct {
	Target     string            `json:"target"`
	ScannedAt  *time.Time        `json:"scanned_at,omitempty"` // the last scan that went well
	TriedAt    *time.Time        `json:"tried_at,omitempty"`
	NextAt     *time.Time        `json:"next_at,omitempty"`
	Problem    string            `json:"problem,omitempty"` // of the last try
	Accounts   int64             `json:"accounts"`
	Score      *int64            `json:"score,omitempty"` // percent; none: nothing is known
	Faults     []Fault           `json:"faults"`
	Unknown    []string          `json:"unknown,omitempty"` // checks whose setting is not known
	Ways       []Way             `json:"ways"`
	Drift      []string          `json:"drift,omitempty"` // against the scan before
	Incomplete []string          `json:"incomplete,omitempty"`
	Settings   map[string]string `json:"settings,omitempty"` // of one target alone
}

// A FoundChange is what differs between two scans of an account.
type FoundChange struct {
	Account string `json:"account"`
	What    string `json:"what"` // "new", "gone" or "changed"
	Text    string `json:"text"`
	Grave   bool   `json:"grave"`
}

// A Discovery is what came of a scan.
type Discovery struct {
	Target   string         `json:"target"`
	Posture  Posture        `json:"posture"`
	Changes  []FoundChange  `json:"changes"`
	Accounts []FoundAccount `json:"accounts"`
}

// DiscoverInput says as whom a target is scanned.
type DiscoverInput struct {
	Account string `json:"account,omitempty"` // none: its provisioner
}

// Discover has a target scanned.
func (c *Client) Discover(ctx context.Context, target string, in DiscoverInput) (Discovery, error) {
	return call[Discovery](ctx, c, http.MethodPost, path("targets", target, "discover"), nil, in)
}

// An InventoryFilter picks accounts that were found, the gravest first.
type InventoryFilter struct {
	Class, Target, Owner, Name string
	Risk                       string // this or a graver one
	After                      string // the Next of the page before
	Limit                      int
}

// Inventory lists accounts that were found. A page may be short and have a next one.
func (c *Client) Inventory(ctx context.Context, f InventoryFilter) (List[FoundAccount], error) {
	q := url.Values{}
	set(q, "class", f.Class)
	set(q, "target", f.Target)
	set(q, "owner", f.Owner)
	set(q, "name", f.Name)
	set(q, "risk", f.Risk)
	set(q, "after", f.After)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return call[List[FoundAccount]](ctx, c, http.MethodGet, "/v1/inventory", q, nil)
}

// FindFound returns an account that was found, by its id or as NAME@TARGET.
func (c *Client) FindFound(ctx context.Context, id string) (FoundAccount, error) {
	return call[FoundAccount](ctx, c, http.MethodGet, path("inventory", id, ""), nil, nil)
}

// AdoptInput says what becomes of accounts that were found.
type AdoptInput struct {
	Accounts []string `json:"accounts"`           // ids, or NAME@TARGET
	Owner    *string  `json:"owner,omitempty"`    // name of a user; "": nobody
	Declare  *string  `json:"declare,omitempty"`  // "service", "shared", "emergency"; "": what the scan says
	Note     string   `json:"note,omitempty"`     // why
	TakeOver bool     `json:"take_over,omitzero"` // it is an account of its target from now on
}

// Adopt gives accounts that were found an owner, says what they are, and takes them
// over: all of them or none.
func (c *Client) Adopt(ctx context.Context, in AdoptInput) (List[FoundAccount], error) {
	return call[List[FoundAccount]](ctx, c, http.MethodPost, "/v1/inventory/adopt", nil, in)
}

// Posture returns how a target stands by its last scan.
func (c *Client) Posture(ctx context.Context, target string) (Posture, error) {
	return call[Posture](ctx, c, http.MethodGet, path("targets", target, "posture"), nil, nil)
}

// Postures lists how targets stand, by their names.
func (c *Client) Postures(ctx context.Context, after string) (List[Posture], error) {
	q := url.Values{}
	set(q, "after", after)
	return call[List[Posture]](ctx, c, http.MethodGet, "/v1/postures", q, nil)
}

// InventoryCSV writes accounts that were found as a table. Cells that a spreadsheet would
// take for formulas are made texts.
func InventoryCSV(w io.Writer, list []FoundAccount) error {
	rows := make([][]string, len(list))
	for i, f := range list {
		var rights []string
		for _, r := range f.Rights {
			rights = append(rights, r.Text+" ("+r.Source+")")
		}
		first, last := f.FirstSeen, f.LastSeen
		rows[i] = []string{f.Target, f.Name, f.Class, f.Risk, f.Owner, f.Password, csvTime(f.LastLogin), strconv.Itoa(len(f.Keys)), strings.Join(rights, "; "),
			strings.Join(f.Reasons, "; "), csvTime(&first), csvTime(&last)}
	}
	return WriteCSV(w, []string{"target", "account", "class", "risk", "owner", "password", "last_login", "keys", "rights", "reasons", "first_seen", "last_seen"}, rows)
}
