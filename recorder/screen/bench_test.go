package screen

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	var logs bytes.Buffer
	for i := 0; logs.Len() < 1<<20; i++ {
		fmt.Fprintf(&logs, "\x1b[32m2026-03-02T10:%02d:%02d\x1b[0m httpd[%d]: request %x took %d ms\r\n", i/60%60, i%60, i, uint32(i)*2654435761, i%977)
	}
	for _, c := range []struct {
		name          string
		columns, rows int
		data          []byte
	}{
		{"text", 80, 24, logs.Bytes()},
		{"vim", 80, 24, bytes.Repeat(programs(b)["vim"], 100)},
		{"lines", MaxColumns, MaxRows, bytes.Repeat([]byte("\n"), 1<<20)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := New(c.columns, c.rows)
			s.Told = func(string) {}
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				_, _ = s.Write(c.data)
			}
		})
	}
}
