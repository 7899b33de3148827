package rsyncwire

import (
	"encoding/binary"
	"math/bits"
)

// varint reads a number of 1 to 5 bytes: how many is said by the ones that the
// first byte begins with.
func (r *Reader) varint() (int32, error) {
	head, err := r.byte()
	if err != nil {
		return 0, err
	}
	more := bits.LeadingZeros8(^head)
	if more > 4 || more == 4 && head&0x0f != 0 {
		return 0, bad("a number that begins with %#x", head)
	}
	var b [5]byte
	p, err := r.next(more)
	if err != nil {
		return 0, err
	}
	copy(b[:], p)
	b[more] = head & (0x7f >> more)
	return int32(binary.LittleEndian.Uint32(b[:])), nil
}

// appendVarint appends a number that is not negative as varint reads it.
func appendVarint(b []byte, n int) []byte {
	switch {
	case n < 1<<7:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x80|byte(n>>8), byte(n))
	case n < 1<<21:
		return append(b, 0xc0|byte(n>>16), byte(n), byte(n>>8))
	case n < 1<<28:
		return append(b, 0xe0|byte(n>>24), byte(n), byte(n>>8), byte(n>>16))
	default:
		return append(b, 0xf0, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
}

// varlong reads a number of at least least bytes and at most 9.
func (r *Reader) varlong(least int) (int64, error) {
	p, err := r.next(least)
	if err != nil {
		return 0, err
	}
	var b [9]byte
	head := p[0]
	copy(b[:], p[1:])
	more := bits.LeadingZeros8(^head)
	if more > 6 || least+more > len(b) {
		return 0, bad("a number that begins with %#x", head)
	}
	if p, err = r.next(more); err != nil {
		return 0, err
	}
	copy(b[least-1:], p)
	b[least-1+more] = head & (0x7f >> more)
	if b[8] != 0 {
		return 0, bad("a number that begins with %#x", head)
	}
	return int64(binary.LittleEndian.Uint64(b[:8])), nil
}

// number reads one that has 4 bytes in version 29.
func (r *Reader) number() (int32, error) {
	if r.version < 30 {
		return r.int()
	}
	return r.varint()
}

// size reads one that has 4 bytes in version 29, or 12.
func (r *Reader) size() (int64, error) {
	if r.version < 30 {
		return r.long()
	}
	return r.varlong(3)
}

// positions are the numbers that were said last, from which those that follow
// differ by what is said: one of those that are not negative, one of the others.
type positions [2]int32

func begin() positions { return positions{-1, 1} }

// index reads the number of an entry, or one with another meaning, which is
// negative. What collects is the number as it is to be said to who has heard the
// numbers that have passed, which need not be all.
func (r *Reader) index() (int32, error) {
	if r.version < 30 {
		return r.int()
	}
	var head [2]byte
	var err error
	if head[0], err = r.plain(); err != nil {
		return 0, err
	}
	which, sign := &r.heard[0], int32(1)
	switch head[0] {
	case 0:
		r.taken = append(r.taken, 0)
		return Done, nil
	case 0xff:
		which, sign = &r.heard[1], -1
		if head[0], err = r.plain(); err != nil {
			return 0, err
		}
	}
	n := *which + int32(head[0])
	if head[0] == 0xfe {
		for i := range head {
			if head[i], err = r.plain(); err != nil {
				return 0, err
			}
		}
		n = *which + int32(head[0])<<8 + int32(head[1])
		if head[0]&0x80 != 0 {
			var rest [2]byte
			for i := range rest {
				if rest[i], err = r.plain(); err != nil {
					return 0, err
				}
			}
			n = int32(head[0]&0x7f)<<24 | int32(rest[1])<<16 | int32(rest[0])<<8 | int32(head[1])
		}
	}
	if n < 0 || sign < 0 && n < 2 {
		return 0, bad("a number of a file that is none")
	}
	*which = n
	r.say(n, sign)
	return n * sign, nil
}

// say collects a number as index reads it.
func (r *Reader) say(n, sign int32) {
	which := &r.saying[0]
	if sign < 0 {
		r.taken = append(r.taken, 0xff)
		which = &r.saying[1]
	}
	more := n - *which
	*which = n
	switch {
	case more > 0 && more < 0xfe:
		r.taken = append(r.taken, byte(more))
	case more < 0 || more > 0x7fff:
		r.taken = append(r.taken, 0xfe, byte(n>>24)|0x80, byte(n), byte(n>>8), byte(n>>16))
	default:
		r.taken = append(r.taken, 0xfe, byte(more>>8), byte(more))
	}
}

// plain reads a byte that does not collect.
func (r *Reader) plain() (byte, error) {
	if err := r.fill(1); err != nil {
		return 0, err
	}
	r.r++
	return r.buf[r.r-1], nil
}
