package screen

import "testing"

// TestCell: what stands in a place, in which colours.
func TestCell(t *testing.T) {
	s := New(10, 2)
	_, _ = s.Write([]byte("a\x1b[31;42mb\x1b[7mc\x1b[0;38;5;208;48;2;1;2;3md\x1b[0;1;4;9me日e\u0301\x1b[0;2mf\x1b[0;48;5;255m\x1b[K"))
	const fore, back = plainForeground, plainBackground
	for i, want := range []Cell{
		{Rune: 'a', Foreground: fore, Background: back},
		{Rune: 'b', Foreground: 0xcd0000, Background: 0x00cd00},
		{Rune: 'c', Foreground: 0x00cd00, Background: 0xcd0000},
		{Rune: 'd', Foreground: 0xff8700, Background: 0x010203},
		{Rune: 'e', Foreground: fore, Background: back, Bold: true, Underline: true, Strike: true},
		{Rune: '日', Wide: true, Foreground: fore, Background: back, Bold: true, Underline: true, Strike: true},
		{Foreground: fore, Background: back, Bold: true, Underline: true, Strike: true},
		{Rune: 'e', Foreground: fore, Background: back, Bold: true, Underline: true, Strike: true},
		{Rune: 'f', Foreground: 0x686868, Background: back},
		{Rune: ' ', Foreground: fore, Background: 0xeeeeee},
		{Rune: ' ', Foreground: fore, Background: back}, // outside
	} {
		if got := s.Cell(0, i); got != want {
			t.Errorf("column %d is %+v, not %+v", i, got, want)
		}
	}
	if row, column := s.Cursor(); row != 0 || column != 9 {
		t.Errorf("the cursor stands at %d, %d", row, column)
	}
	for _, at := range [][2]int{{-1, 0}, {2, 0}, {0, -1}, {1, 5}} {
		if got := s.Cell(at[0], at[1]); got.Rune != ' ' {
			t.Errorf("%v is %+v", at, got)
		}
	}
}
