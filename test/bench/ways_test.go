package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// connect measures what a person waits for: ssh host true, from the start of
// the program to its end.
func connect(bed *bed, r *report) {
	took, used := map[way][]time.Duration{}, map[way]time.Duration{}
	for n := range *connects + 1 {
		for _, w := range turned(n) {
			before := bed.middle(w)
			start := time.Now()
			if out, err := bed.ssh(w, "true").CombinedOutput(); err != nil {
				bed.b.Fatalf("%s: %v\n%s", w.name, err, out)
			}
			d := time.Since(start)
			bed.quiet()
			if n > 0 { // the first one warms caches
				took[w] = append(took[w], d)
				used[w] += bed.middle(w) - before
			}
		}
	}
	bed.forget()
	var rows [][]string
	for _, w := range ways {
		p50 := median(took[w])
		rows = append(rows, []string{w.name, ms(p50), ms(quantile(took[w], 0.9)), ratio(p50, median(took[straight])), ratio(p50, median(took[stock])),
			middle(w, ms(used[w]/time.Duration(*connects)))})
	}
	r.table("Connect (`ssh host true`)", []string{"way", "p50 ms", "p90 ms", "to direct", "to `-J`", "CPU of the middle, ms a session"}, rows)
}

// keystrokes measures from a key to its echo, on a terminal, through ssh.
func keystrokes(bed *bed, r *report) {
	type line struct {
		terminal *os.File
		cmd      *exec.Cmd
	}
	lines := map[way]line{}
	for _, w := range ways {
		cmd := bed.ssh(w, "-tt", echoes)
		lines[w] = line{openEcho(bed.b, cmd), cmd}
	}
	// Whatever hangs ends: the reads below fail when ssh is gone.
	limit := time.AfterFunc(10*time.Second+time.Duration(*keys)*100*time.Millisecond, func() {
		for _, l := range lines {
			_ = l.cmd.Process.Kill()
		}
	})
	defer limit.Stop()
	took, used := map[way][]time.Duration{}, map[way]time.Duration{}
	before := bed.middle(direct)
	warm := 20
	for n := range *keys + warm {
		for _, w := range turned(n) {
			key := []byte{'a' + byte(n%26)}
			time.Sleep(2 * time.Millisecond)
			start := time.Now()
			err := echo(lines[w].terminal, key)
			d := time.Since(start)
			if err != nil {
				bed.b.Fatalf("%s: %v", w.name, err)
			}
			if n >= warm {
				took[w] = append(took[w], d)
			}
		}
	}
	used[direct] = bed.middle(direct) - before
	for _, l := range lines {
		l.terminal.Close()
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	}
	bed.quiet()
	bed.forget()
	var rows [][]string
	for _, w := range ways {
		p50, p99 := median(took[w]), quantile(took[w], 0.99)
		rows = append(rows, []string{w.name, us(p50), us(p99), us(p50 - median(took[straight])), us(p99 - quantile(took[straight], 0.99))})
	}
	r.table("Keystroke to echo, on a terminal", []string{"way", "p50 µs", "p99 µs", "added p50 µs", "added p99 µs"}, rows)
	r.say("CPU of drawboltd, over both of its ways: %d µs a keystroke and its echo, recorded.\n", used[direct].Microseconds()/int64(2*(*keys+warm)))
}

// echoes is a program that sends back what comes, at once.
const echoes = "stty raw -echo; echo ready; exec cat"

// openEcho starts ssh on a terminal and waits until echoes runs.
func openEcho(b testing.TB, cmd *exec.Cmd) *os.File {
	b.Helper()
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	check(b, err)
	var seen []byte
	for one := make([]byte, 1); !bytes.HasSuffix(bytes.ReplaceAll(seen, []byte("\r"), nil), []byte("ready\n")); seen = append(seen, one...) {
		if _, err := io.ReadFull(terminal, one); err != nil {
			b.Fatalf("%v after %q", err, seen)
		}
	}
	return terminal
}

// echo sends a key and waits for it to come back.
func echo(terminal *os.File, key []byte) error {
	got := []byte{0}
	_, err := terminal.Write(key)
	if err == nil {
		_, err = io.ReadFull(terminal, got)
	}
	if err == nil && got[0] != key[0] {
		err = fmt.Errorf("%q came back as %q", key, got)
	}
	return err
}

// bulk measures transfers, and what they cost in the middle: while data flows,
// and after it, when the recording is sealed.
func bulk(bed *bed, r *report) {
	type of struct {
		content, direction string
		way                way
	}
	type sum struct {
		rates         []float64
		flow, sealing time.Duration
	}
	sums := map[of]*sum{}
	list := []string{"zeros", "random", "text"}
	directions := []string{"down", "up"}
	for n := range *rounds {
		for _, content := range list {
			for _, direction := range directions {
				for _, w := range turned(n) {
					s := sums[of{content, direction, w}]
					if s == nil {
						s = new(sum)
						sums[of{content, direction, w}] = s
					}
					d, flow, sealing := bed.transfer(w, direction, bed.files[content])
					s.rates = append(s.rates, float64(*size)/d.Seconds())
					s.flow += flow
					s.sealing += sealing
				}
			}
		}
	}
	gib := float64(*rounds) * float64(*size) / 1024
	for _, direction := range directions {
		var rows [][]string
		for _, content := range list {
			rate := func(w way) float64 { return median(sums[of{content, direction, w}].rates) }
			for _, w := range ways {
				s := sums[of{content, direction, w}]
				seal := "-"
				if w == direct || w == jump {
					seal = fmt.Sprintf("%.2f", s.sealing.Seconds()/gib)
				}
				rows = append(rows, []string{content + ", " + w.name, fmt.Sprintf("%.0f", rate(w)), fmt.Sprintf("%.2f", rate(w)/rate(straight)), fmt.Sprintf("%.2f", rate(w)/rate(stock)),
					middle(w, fmt.Sprintf("%.2f", s.flow.Seconds()/gib)), seal})
			}
		}
		r.table("Bulk "+direction+", recorded", []string{"content, way", "MiB/s", "to direct", "to `-J`", "CPU of the middle, s/GiB", "to seal, s/GiB"}, rows)
	}
}

// transfer moves a file and returns how long the data took, without the
// connecting, and the processor time of the middle, before and after the end.
func (bed *bed) transfer(w way, direction, path string) (took, flow, sealing time.Duration) {
	b := bed.b
	b.Helper()
	var cmd *exec.Cmd
	var pipe io.ReadCloser
	if direction == "down" {
		cmd = bed.ssh(w, "echo go >&2; exec cat "+path)
		pipe = must(cmd.StderrPipe())(b)
	} else {
		cmd = bed.ssh(w, "echo go; cat >/dev/null; echo end")
		pipe = must(cmd.StdoutPipe())(b)
		f := must(os.Open(path))(b)
		defer f.Close()
		cmd.Stdin = f
	}
	check(b, cmd.Start())
	talk := bufio.NewReader(pipe)
	wait := func(word string) {
		for {
			text, err := talk.ReadString('\n')
			if strings.TrimSpace(text) == word {
				return
			}
			if err != nil {
				_ = cmd.Wait()
				b.Fatalf("%s, %s: no %q: %v", w.name, direction, word, err)
			}
		}
	}
	wait("go")
	start, before := time.Now(), bed.middle(w)
	if direction == "up" {
		wait("end")
		took = time.Since(start)
	}
	drain(talk)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("%s, %s: %v", w.name, direction, err)
	}
	if direction == "down" {
		took = time.Since(start)
	}
	flow = bed.middle(w) - before
	bed.quiet()
	sealing = bed.middle(w) - before - flow
	if w == stock { // it counts a child when that has ended
		flow, sealing = flow+sealing, 0
	}
	if got := len(bed.recordings()); (w == direct || w == jump) != (got == 1) {
		b.Fatalf("%s left %d recordings", w.name, got)
	}
	bed.forget()
	return took, flow, sealing
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1e3) }

func us(d time.Duration) string { return fmt.Sprint(d.Microseconds()) }

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", a.Seconds()/b.Seconds()) }

// middle leaves out what has no middle.
func middle(w way, s string) string {
	if w == straight {
		return "-"
	}
	return s
}
