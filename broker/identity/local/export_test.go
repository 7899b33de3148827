package local

import "sync/atomic"

// CountHashes makes the provider count its argon2id runs in n.
func (p *Provider) CountHashes(n *atomic.Int32) {
	run := p.hasher.run
	p.hasher.run = func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
		n.Add(1)
		return run(password, salt, time, memory, threads, keyLen)
	}
}
