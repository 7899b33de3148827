package api

// A Changed says that there is something to look at again.
type Changed struct {
	IDs []string `json:"ids"`           // of what the caller may see
	All bool     `json:"all,omitempty"` // more has changed than the server remembers
}

// A Hit is something that is found by a part of its name.
type Hit struct {
	Kind   string `json:"kind"` // target, request or person
	Name   string `json:"name"`
	Detail string `json:"detail"`
	URL    string `json:"url"` // a path
}
