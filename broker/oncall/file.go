package oncall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A file is a schedule in YAML: single shifts, and a rotation of people who take
// turns of equal length for ever.
type file string

type fileForm struct {
	Shifts []struct {
		Person string `yaml:"person"`
		From   string `yaml:"from"`
		Until  string `yaml:"until"`
	} `yaml:"shifts"`
	Rotation *struct {
		People []string `yaml:"people"`
		Start  string   `yaml:"start"`
		Every  string   `yaml:"every"`
	} `yaml:"rotation"`
}

func (f file) read(_ context.Context, from, until time.Time) ([]shift, error) {
	b, err := readFile(string(f))
	if err != nil {
		return nil, err
	}
	return parseFile(b, from, until)
}

func parseFile(b []byte, from, until time.Time) ([]shift, error) {
	var form fileForm
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&form); err != nil {
		return nil, fmt.Errorf("it is no schedule: %w", err)
	}
	if len(form.Shifts) > maxShifts {
		return nil, fmt.Errorf("it has more than %d shifts", maxShifts)
	}
	var out []shift
	for i, x := range form.Shifts {
		a, errA := time.Parse(time.RFC3339, x.From)
		b, errB := time.Parse(time.RFC3339, x.Until)
		if errA != nil || errB != nil || !b.After(a) || x.Person == "" {
			return nil, fmt.Errorf("shift %d has no person, or no times such as 2026-03-01T08:00:00Z, the second after the first", i+1)
		}
		if b.After(from) && a.Before(until) {
			out = append(out, shift{x.Person, a, b})
		}
	}
	r := form.Rotation
	if r == nil {
		return out, nil
	}
	start, err := time.Parse(time.RFC3339, r.Start)
	every, errEvery := access.ParseDuration(r.Every)
	switch {
	case err != nil || errEvery != nil || len(r.People) == 0 || len(r.People) > maxShifts:
		return nil, errors.New("the rotation names people, its start such as 2026-03-01T08:00:00Z, and every such as 7d")
	case every < time.Hour:
		return nil, errors.New("a turn of the rotation is at least an hour long")
	}
	// The first turn that ends after from.
	n := max(0, int(from.Sub(start)/every))
	for ; start.Add(time.Duration(n) * every).Before(until); n++ {
		a := start.Add(time.Duration(n) * every)
		out = append(out, shift{r.People[n%len(r.People)], a, a.Add(every)})
	}
	return out, nil
}
