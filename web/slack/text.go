package slack

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/access"
)

// What a person wrote is sent as plain text only, where nothing is markup. What
// stands between our own words in markup is escaped (the three characters that
// Slack reads, https://docs.slack.dev/messaging/formatting-message-text), and
// loses what would begin or end a style.

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// word is a name between words in markup.
func word(s string) string {
	return escape(strings.NewReplacer("*", "", "~", "", "`", "", "\n", " ").Replace(s))
}

// code is a name as code in markup; there is no way to write a backtick in one.
func code(s string) string {
	return "`" + escape(strings.NewReplacer("`", "", "\n", " ").Replace(s)) + "`"
}

// link is a link in markup; the address is ours.
func link(url, text string) string { return "<" + url + "|" + escape(text) + ">" }

// at is a time that each reader sees on their own clock.
func at(t time.Time, format string) string {
	return fmt.Sprintf("<!date^%d^%s|%s>", t.Unix(), format, t.UTC().Format("15:04 UTC"))
}

func clock(t time.Time) string { return at(t, "{time}") }

func marked(s string) *sdk.TextBlockObject {
	return sdk.NewTextBlockObject(sdk.MarkdownType, cut(s, maxText), false, false)
}

func plain(s string) *sdk.TextBlockObject {
	return sdk.NewTextBlockObject(sdk.PlainTextType, cut(s, maxText), false, false)
}

func label(s string) *sdk.TextBlockObject {
	return sdk.NewTextBlockObject(sdk.PlainTextType, cut(s, maxLabel), false, false)
}

func section(s string) sdk.Block { return sdk.NewSectionBlock(marked(s), nil, nil) }

// quote is what a person wrote.
func quote(s string) sdk.Block {
	return sdk.NewSectionBlock(plain("“"+cut(s, maxQuote)+"”"), nil, nil)
}

func footer(parts ...string) sdk.Block {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return sdk.NewContextBlock("", marked(strings.Join(parts, " · ")))
}

func length(d time.Duration) string { return access.FormatDuration(d) }

// sentenceCase is a text with a capital at its beginning, in whichever script that is.
func sentenceCase(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 || first == utf8.RuneError {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}
