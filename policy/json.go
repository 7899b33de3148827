package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// appendJSON writes in as encoding/json would (a test compares them), but that
// takes as long as a third of the decision. in must be filled and checked.
func (in *Input) appendJSON(dst []byte) []byte {
	u, t, e, r := &in.User, &in.Target, &in.Environment, &in.Request
	b := jsonWriter{dst}
	b.text(`{"action":`, string(in.Action))
	b.text(`,"user":{"id":`, u.ID)
	b.text(`,"name":`, u.Name)
	b.texts(`,"groups":`, u.Groups)
	b.boolean(`,"bot":`, u.Bot)
	b.boolean(`,"locked":`, u.Locked)
	if u.MFAAgeSeconds != nil {
		b.number(`,"mfa_age_seconds":`, *u.MFAAgeSeconds)
	} else {
		b.raw(`,"mfa_age_seconds":null`)
	}
	b.object(`,"attributes":`, u.Attributes)
	b.texts(`,"stands_for":`, u.StandsFor)
	b.text(`},"target":{"id":`, t.ID)
	b.text(`,"name":`, t.Name)
	b.object(`,"labels":`, t.Labels)
	b.texts(`,"applications":`, t.Applications)
	b.boolean(`,"locked":`, t.Locked)
	b.text(`},"account":`, in.Account)
	b.text(`,"environment":{"time":`, e.Time)
	b.text(`,"weekday":`, e.Weekday)
	b.number(`,"hour":`, int64(e.Hour))
	b.number(`,"minute":`, int64(e.Minute))
	b.text(`,"source":`, e.Source)
	b.boolean(`,"maintenance_window":`, e.MaintenanceWindow)
	b.text(`,"ticket":`, e.Ticket)
	b.text(`},"request":{"id":`, r.ID)
	b.text(`,"requester":`, r.Requester)
	b.text(`,"owner":`, r.Owner)
	b.text(`,"role":`, r.Role)
	b.text(`,"rule":`, r.Rule)
	b.text(`,"reason":`, r.Reason)
	b.number(`,"duration_seconds":`, r.DurationSeconds)
	b.boolean(`,"break_glass":`, r.BreakGlass)
	b.text(`,"created_at":`, r.CreatedAt)
	b.raw(`,"approvals":[`)
	for i, v := range r.Approvals {
		if i > 0 {
			b.raw(",")
		}
		b.text(`{"user_id":`, v.UserID)
		b.texts(`,"groups":`, v.Groups)
		b.number(`,"step":`, int64(v.Step))
		b.number(`,"waited_seconds":`, v.WaitedSeconds)
		b.raw("}")
	}
	b.text(`],"state":`, r.State)
	b.raw("}}")
	return b.out
}

// A jsonWriter writes values, each after the text that goes before it.
type jsonWriter struct{ out []byte }

func (b *jsonWriter) raw(before string) { b.out = append(b.out, before...) }

func (b *jsonWriter) number(before string, n int64) {
	b.out = strconv.AppendInt(append(b.out, before...), n, 10)
}

func (b *jsonWriter) boolean(before string, v bool) {
	b.out = strconv.AppendBool(append(b.out, before...), v)
}

func (b *jsonWriter) text(before, s string) {
	b.raw(before)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			b.out = append(b.out, quoted...)
			return
		}
	}
	b.out = append(append(append(b.out, '"'), s...), '"')
}

func (b *jsonWriter) texts(before string, list []string) {
	b.raw(before)
	separator := "["
	for _, s := range list {
		b.text(separator, s)
		separator = ","
	}
	if len(list) == 0 {
		b.raw("[")
	}
	b.raw("]")
}

// object writes the fields in the order of their names.
func (b *jsonWriter) object(before string, fields map[string]string) {
	b.raw(before)
	separator := "{"
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b.text(separator, name)
		b.text(":", fields[name])
		separator = ","
	}
	if len(fields) == 0 {
		b.raw("{")
	}
	b.raw("}")
}
