package ui

import (
	"slices"
	"strings"
)

// others are those who are asked besides who is looking, by name.
func (r *Request) others() (names []string) {
	for _, name := range r.Waiting {
		name, _, _ = strings.Cut(name, " ") // "carol (for bob)"
		if name != r.Viewer && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
