package access

// A TicketCheck is what a ticket system says about the ticket of a request: the
// zero value when it was not asked.
type TicketCheck struct {
	ID       string
	Valid    bool // it is open, for the requester, and about the target
	State    string
	Assignee string
	Title    string
	Why      string // when it is not valid: one sentence
}

func (c TicketCheck) shown() *TicketCheck {
	if c == (TicketCheck{}) {
		return nil
	}
	return &c
}
