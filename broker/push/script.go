package push

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/drawbolt/drawbolt/broker"
)

// script puts the list in its place at a target.
//
//go:embed revoked.sh
var script []byte

// maxOutput is how much a target may answer, in bytes.
const maxOutput = 16 << 10

// command is what the target's shell is to run with the input.
func command(d broker.Delivery) string {
	line := "sh -s -- " + strconv.FormatUint(d.Number, 10)
	if d.Target.Provisioner != "root" {
		line = "sudo -n -- " + line
	}
	return line
}

// input is the script with the list. What is cut off anywhere does nothing: only
// its last line begins. No line of the list has a space in it.
func input(d broker.Delivery) []byte {
	var b bytes.Buffer
	b.Write(script)
	b.WriteString("\nlist() {\n  base64 -d <<'END OF THE LIST'\n")
	text := base64.StdEncoding.EncodeToString(d.List)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	b.WriteString(text + "\nEND OF THE LIST\n}\n\nbring \"$1\"\n")
	return b.Bytes()
}

var (
	outcomeLine = regexp.MustCompile(`(?m)^drawbolt: outcome=(replaced|newer|foreign|failed)\r?$`)
	problemLine = regexp.MustCompile(`(?m)^drawbolt: problem=([ -~]{1,200}?)\r?$`)
)

// errForeign: there is nothing at the target that is for us to replace. Trying
// again is of no use.
var errForeign = errors.New("the list there is not ours to replace")

var errSilent = errors.New("the target did not say how it went")

// parse reads how it went out of what the target sent, which may have other
// lines around it. The target is not trusted: one that lies can only hide its own
// state.
func parse(output []byte) error {
	outcomes := outcomeLine.FindAllSubmatch(output, -1)
	if len(output) > maxOutput || len(outcomes) != 1 {
		return errSilent
	}
	problem := "it does not say why"
	if m := problemLine.FindSubmatch(output); m != nil {
		problem = string(m[1])
	}
	switch string(outcomes[0][1]) {
	case "replaced", "newer": // what is newer has all that is on ours
		return nil
	case "foreign":
		return fmt.Errorf("%w: %s", errForeign, problem)
	default:
		return fmt.Errorf("the target says: %s", problem)
	}
}
