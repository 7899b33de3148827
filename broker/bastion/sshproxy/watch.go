package sshproxy

import "github.com/drawbolt/drawbolt/broker/bastion"

// watch looks at what is typed into the channel's terminal, for what the role warns
// of. A client that does not read what it is told holds nothing up.
func (c *channel) watch(s *bastion.Session) *bastion.Watch {
	w := s.Watch(c.tellLater)
	c.mu.Lock() // after which every new size finds the watch
	defer c.mu.Unlock()
	w.Resize(int(c.size.Columns))
	return w
}
