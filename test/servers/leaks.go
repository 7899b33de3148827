package servers

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Leaks runs the tests of a package and fails when they have left goroutines behind. To
// those that are about to end it gives half a minute; goleak alone gives half a
// second, in which a busy machine does not even begin.
func Leaks(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

type patient struct{ *testing.M }

func (m patient) Run() int {
	code := m.M.Run()
	for end := time.Now().Add(30 * time.Second); code == 0 && time.Now().Before(end); {
		if goleak.Find() == nil {
			break
		}
	}
	return code
}
