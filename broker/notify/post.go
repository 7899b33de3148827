package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/drawbolt/drawbolt/broker/outbound"
)

// An Address is where a channel posts to. One that is a secret by itself, as that
// of an incoming webhook, stands in a file of its own, which is read each time.
type Address struct{ URL, File string }

// Check says what is wrong with an address. It does not read the file.
func (a Address) Check() error {
	switch {
	case (a.URL == "") == (a.File == ""):
		return errors.New("an address is needed: url, or url_file of a file that holds it")
	case a.URL != "":
		return outbound.CheckURL(a.URL)
	default:
		return nil
	}
}

// Post sends bytes there, and returns what Notify does.
func (a Address) Post(ctx context.Context, out *outbound.Client, header http.Header, body []byte) error {
	url := a.URL
	if a.File != "" {
		secret, err := outbound.ReadSecret(a.File)
		if err != nil {
			return err
		}
		url = string(secret.Expose())
	}
	answer, err := out.Do(ctx, outbound.Call{URL: url, Header: header, Body: body})
	if err != nil {
		return err
	}
	return Answered(answer)
}

// PostJSON is Post for what is written as JSON.
func (a Address) PostJSON(ctx context.Context, out *outbound.Client, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the message: %w", err)
	}
	return a.Post(ctx, out, http.Header{"Content-Type": {"application/json"}}, body)
}
