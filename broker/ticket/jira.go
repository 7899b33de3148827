package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// jira reads an issue: GET /rest/api/2/issue/KEY. In version 2 of the API texts
// are plain strings, in Data Center and in Cloud.
func (t *Checker) jira(ctx context.Context, key string) (*found, error) {
	at := t.url.JoinPath("rest/api/2/issue", key)
	at.RawQuery = url.Values{"fields": {"summary,description,status,assignee,labels,components,environment"}}.Encode()
	status, body, err := t.get(ctx, at)
	if err != nil || status == http.StatusNotFound {
		return nil, err
	}
	var issue struct {
		Key    string `json:"key"`
		Fields struct {
			Summary     string   `json:"summary"`
			Description string   `json:"description"`
			Environment string   `json:"environment"`
			Labels      []string `json:"labels"`
			Components  []struct {
				Name string `json:"name"`
			} `json:"components"`
			Status struct {
				Name     string `json:"name"`
				Category struct {
					Key string `json:"key"`
				} `json:"statusCategory"`
			} `json:"status"`
			Assignee *struct {
				Name        string `json:"name"` // Data Center
				Email       string `json:"emailAddress"`
				AccountID   string `json:"accountId"` // Cloud
				DisplayName string `json:"displayName"`
			} `json:"assignee"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(body, &issue); err != nil {
		return nil, errors.New("does not answer with an issue; is its address right?")
	}
	if issue.Key != key { // one that was moved answers to its old key, which somebody may have seen before
		return nil, nil
	}
	f := issue.Fields
	out := &found{
		state: f.Status.Name, title: f.Summary,
		// The categories of states are three, and only these two are open.
		open:  f.Status.Category.Key == "new" || f.Status.Category.Key == "indeterminate",
		about: append([]string{f.Summary, f.Description, f.Environment}, f.Labels...),
	}
	for _, c := range f.Components {
		out.about = append(out.about, c.Name)
	}
	if a := f.Assignee; a != nil {
		// Not the name that is displayed: people choose that.
		out.people = []string{a.Name, a.Email, a.AccountID}
		out.assignee = firstOf(a.Name, a.Email, a.AccountID)
	}
	return out, nil
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// get reads an address with the token.
func (t *Checker) get(ctx context.Context, at *url.URL) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, errors.New("has no such address")
	}
	if token := string(t.c.Token.Expose()); t.c.User != "" {
		r.SetBasicAuth(t.c.User, token)
	} else {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	status, _, body, err := t.do(r)
	return status, body, err
}

// serviceNow reads a record: GET /api/now/table/TABLE. Fields of what a record
// refers to have dots in their names.
func (t *Checker) serviceNow(ctx context.Context, number string) (*found, error) {
	at := t.url.JoinPath("api/now/table", t.c.Table)
	at.RawQuery = url.Values{
		"sysparm_query":                  {"number=" + number},
		"sysparm_fields":                 {"number,active,state,short_description,description,assigned_to.user_name,assigned_to.email,cmdb_ci.name"},
		"sysparm_display_value":          {"true"},
		"sysparm_exclude_reference_link": {"true"},
		"sysparm_limit":                  {"2"},
	}.Encode()
	status, body, err := t.get(ctx, at)
	if err != nil || status == http.StatusNotFound {
		return nil, err
	}
	var answer struct {
		Result []struct {
			Number      string `json:"number"`
			Active      string `json:"active"`
			State       string `json:"state"`
			Short       string `json:"short_description"`
			Description string `json:"description"`
			User        string `json:"assigned_to.user_name"`
			Email       string `json:"assigned_to.email"`
			Item        string `json:"cmdb_ci.name"`
		} `json:"result"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, errors.New("does not answer with records; is its address right?")
	}
	// A query that it did not understand selects everything.
	if len(answer.Result) != 1 || answer.Result[0].Number != number {
		return nil, nil
	}
	r := answer.Result[0]
	return &found{
		state: r.State, title: r.Short, open: r.Active == "true",
		assignee: firstOf(r.User, r.Email), people: []string{r.User, r.Email},
		about: []string{r.Short, r.Description, r.Item},
	}, nil
}
