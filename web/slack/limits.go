package slack

import (
	"strings"
	"time"
	"unicode/utf8"
)

// What Slack takes, in characters unless said otherwise
// (https://docs.slack.dev/reference/block-kit and the pages below it).
const (
	maxText     = 3000 // of a text in a block, and of a modal's private metadata
	maxFallback = 4000 // of a message's own text
	maxField    = 2000
	maxHeader   = 150
	maxLabel    = 75 // of a button, and of an option's text
	maxValue    = 2000
	maxOption   = 150 // of an option's value
	maxTitle    = 24  // of a modal
	maxOptions  = 100 // number of what an external select offers
	maxHome     = 100 // number of blocks in a home tab
)

// What we show and take at most.
const (
	maxQuote   = 300      // of what a person wrote, before "…"
	maxAnswer  = 1 << 20  // bytes of an answer of Slack
	maxBody    = 64 << 10 // bytes of what Slack sends to us
	maxDirect  = 100      // direct messages about one request
	maxNamed   = 10       // people on a card
	maxTalk    = 3        // questions on a card, the last
	maxAlarms  = 100      // messages of one session that are brought up to date: as many as are made
	maxListed  = 10       // requests in one answer
	atOnce     = 8        // calls of Slack for one notice
	maxWork    = 64       // things that people have done in Slack and that are being worked on
	maxPeople  = 10_000   // accounts whose clicks are counted
	clickEvery = time.Second / 5
	clickBurst = 20

	// What is logged of what is not Slack's: so often, and so many lines at once.
	doubtEvery = time.Second
	doubtBurst = 20

	callWithin   = 10 * time.Second // one call of Slack
	answerWithin = 2 * time.Second  // what Slack waits for; it gives up after three
	workWithin   = 30 * time.Second // what somebody did in Slack
	rememberFor  = 10 * time.Minute // what must not count twice; longer than a signature is good
)

// cut shortens s to n characters and shows that it did.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return strings.TrimSpace(string(r[:n-1])) + "…"
}
