package keeper

import "errors"

// PKCS11 says where a key of a PKCS#11 token is, which never leaves it.
type PKCS11 struct {
	Module  string // path of the library of the token's maker, which runs in this process
	Token   string // label
	Key     string // label of an AES key of 256 bits, which is made at the first use
	PINFile string // of the token's user; read at each start
}

func (c PKCS11) check() error {
	if c.Module == "" || c.Token == "" || c.Key == "" || c.PINFile == "" {
		return errors.New("a PKCS#11 token takes a module, the token's label, the key's label and a file with the PIN")
	}
	return nil
}
