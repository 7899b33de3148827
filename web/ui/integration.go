package ui

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/drawbolt/drawbolt/web/api"
)

// An Integration is one as its page shows it.
type Integration struct {
	api.Integration
	Test string // what became of the test that was just sent; "": none was
	Wait bool   // nothing yet
}

// TriedIntegration says of an integration what became of the test of that number;
// of no number, or of one that is none, nothing.
func TriedIntegration(i api.Integration, test string) Integration {
	out := Integration{Integration: i}
	n, err := strconv.ParseInt(test, 10, 64)
	aside := slices.IndexFunc(i.SetAside, func(a api.SetAside) bool { return a.Position == n })
	switch {
	case err != nil || n < 0:
	case i.Position <= n:
		out.Test, out.Wait = "The test is on its way.", true
	case aside >= 0:
		out.Test = "The test was refused: " + i.SetAside[aside].Error
	default:
		out.Test = "The test was taken by the other side."
	}
	return out
}

// integrationSums says in words how far an integration is.
func integrationSums(i api.Integration) string {
	text := "has told of everything"
	if i.Behind > 0 && i.LagSeconds >= 5 {
		text = fmt.Sprintf("%d events behind, %s", i.Behind, Span(i.LagSeconds))
	}
	if i.Late > 0 {
		text += fmt.Sprintf("; %d late", i.Late)
	}
	if i.Aside > 0 {
		text += fmt.Sprintf("; %d set aside", i.Aside)
	}
	return text
}
