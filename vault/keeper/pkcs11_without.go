//go:build !pkcs11

package keeper

import (
	"errors"

	"github.com/drawbolt/drawbolt/vault"
)

// NewPKCS11 is not in this program.
func NewPKCS11(c PKCS11) (vault.Keeper, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return nil, errors.New("this program was built without PKCS#11: build it with cgo and -tags pkcs11")
}
