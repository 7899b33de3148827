package bastion

import (
	"errors"
	"math"
	"strconv"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

func TestAuthorizeFile(t *testing.T) {
	rules := access.SessionRules{Files: []string{
		"upload /srv/** max 10", "upload /srv/www/** max 100 keep", "upload /srv/www/big/**", "upload /srv/www/big/** keep",
		"download /var/log/*", "download /kept/* keep", "nonsense",
	}}
	for _, test := range []struct {
		direction access.Direction
		file      string
		max       int64 // 0: refused
		keep      bool
	}{
		{access.Upload, "/srv/x", 10, false},
		{access.Upload, "/srv/www/x", 100, true}, // the one that allows most
		{access.Upload, "/srv/www/big/x", math.MaxInt64, false},
		{access.Download, "/srv/x", 0, false},
		{access.Download, "/var/log/syslog", math.MaxInt64, false},
		{access.Download, "/var/log/apt/term", 0, false},
		{access.Download, "/kept/x", maxKept, true},
		{access.Upload, "/srv", 0, false},
		{access.Upload, "/etc/passwd", 0, false},
		{"", "/srv/x", 0, false},
	} {
		got, err := AuthorizeFile(rules, test.direction, test.file)
		if test.max == 0 {
			if !errors.Is(err, access.ErrDenied) {
				t.Errorf("%s %s: got %v", test.direction, test.file, err)
			}
		} else if err != nil || got.MaxBytes != test.max || got.Keep != test.keep {
			t.Errorf("%s %s: got %+v, %v", test.direction, test.file, got, err)
		}
	}
}

func TestAuthorizeTree(t *testing.T) {
	rules := access.SessionRules{Files: []string{"upload /srv/**", "upload /tmp/*", "download /limited/** max 10", "download /kept/** keep", "download /one"}}
	for _, test := range []struct {
		direction        access.Direction
		path             string
		tree, blind, any bool
	}{
		{access.Upload, "/srv", true, false, true},
		{access.Upload, "/srv/www", true, true, true},
		{access.Upload, "/", false, false, false},
		{access.Upload, "/tmp", false, false, true},
		{access.Upload, "/tmp/x", false, true, false},
		{access.Download, "/srv", false, false, false},
		{access.Download, "/limited/x", false, false, false},
		{access.Download, "/kept/x", false, false, false},
		{access.Download, "/one", false, true, false},
	} {
		got := [3]bool{AuthorizeTree(rules, test.direction, test.path) == nil, AuthorizeBlind(rules, test.direction, test.path) == nil, AuthorizeAny(rules, test.direction, test.path) == nil}
		if want := [3]bool{test.tree, test.blind, test.any}; got != want {
			t.Errorf("%s %s: got %v, want %v", test.direction, test.path, got, want)
		}
	}
	if AuthorizeTree(access.SessionRules{Files: []string{"upload *"}}, access.Upload, "/") != nil {
		t.Error("a rule for every path does not hold for all of them")
	}
}

func TestAuthorizeMove(t *testing.T) {
	for name, test := range map[string]struct {
		rules    []string
		from, to string
		folder   bool
		want     bool
	}{
		"within uploads":                   {[]string{"upload /up/**"}, "/up/a", "/up/b", false, true},
		"a folder within uploads":          {[]string{"upload /up/**"}, "/up/a", "/up/b", true, true},
		"out":                              {[]string{"upload /up/**"}, "/up/a", "/etc/a", false, false},
		"in":                               {[]string{"upload /up/**"}, "/etc/a", "/up/a", false, false},
		"to a download":                    {[]string{"upload /up/**", "upload /out/**", "download /out/**"}, "/up/a", "/out/a", false, false},
		"from a download":                  {[]string{"upload /up/**", "upload /out/**", "download /out/**"}, "/out/a", "/up/a", false, true},
		"between downloads":                {[]string{"upload *", "download *"}, "/a", "/b", true, true},
		"a folder with more than is named": {[]string{"upload /up/*"}, "/up/a", "/up/b", true, false},
		"a folder to where some is":        {[]string{"upload /up/**", "download /up/out/*"}, "/up/a", "/up/out", true, false},
		"a folder above":                   {[]string{"upload /up/**", "download /up/*/x"}, "/up/a", "/up/b", true, false},
		"a folder beside downloads":        {[]string{"upload /up/**", "download /var/log/*"}, "/up/a", "/up/b", true, true},
		"onto the root of the rule":        {[]string{"upload /up/**"}, "/up/a", "/up", true, false},
	} {
		err := AuthorizeMove(access.SessionRules{Files: test.rules}, test.from, test.to, test.folder)
		if (err == nil) != test.want || err != nil && !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Beyond a hundred of each result, files are summed up by what they have in
// common; a flood of refusals takes no place from what passed.
func TestFilesSummedUp(t *testing.T) {
	var l files
	single := map[string]int{}
	for i := range 500 {
		for _, result := range []string{resultOK, resultRefused} {
			if l.single(broker.Transfer{Via: "sftp", Direction: "upload", Path: strconv.Itoa(i), Bytes: 2, Result: result}) {
				single[result]++
			}
		}
	}
	if single[resultOK] != maxSingle || single[resultRefused] != maxSingle {
		t.Errorf("single: %v", single)
	}
	sums := l.sums()
	if len(sums) != 2 || sums[0].Files != 400 || sums[0].Bytes != 800 || sums[0].Result != resultOK || sums[1].Result != resultRefused || sums[0].Path != "" {
		t.Errorf("got %+v", sums)
	}
}
