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

// A WallEvent is what stands last on the screen of a running session.
type WallEvent struct {
	Session string `json:"session"`
	Text    string `json:"text"`           // lines; when it is over, perhaps why
	Over    bool   `json:"over,omitempty"` // there will be no more of it
}
