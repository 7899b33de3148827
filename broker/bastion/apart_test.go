package bastion

import (
	"errors"
	"testing"
)

func TestApart(t *testing.T) {
	why := errors.New("why")
	if n, err := Apart(func() (int, error) { return 7, why }); n != 7 || err != why {
		t.Errorf("got %d, %v", n, err)
	}
	defer func() {
		if p := recover(); p != "a fault" {
			t.Errorf("got panic %v", p)
		}
	}()
	Apart(func() (int, error) { panic("a fault") })
}
