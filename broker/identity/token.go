package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/drawbolt/drawbolt/broker/access"
)

// tokenType says that a token is a login and nothing else (RFC 8725, section
// 3.11), so that nothing else that may once be signed passes for one.
const tokenType = "drawbolt-login+jwt"

// maxToken bounds a token in bytes; ours have about 400.
const maxToken = 2048

// sign returns the token of a login: a JWT (RFC 7519) signed with EdDSA (RFC
// 8037) whose jti is the login and whose sub is the user.
func (l *Logins) sign(login Login) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{
		Issuer:    l.c.Issuer,
		Subject:   login.UserID,
		Audience:  jwt.ClaimStrings{l.c.Audience},
		IssuedAt:  jwt.NewNumericDate(login.IssuedAt),
		ExpiresAt: jwt.NewNumericDate(login.ExpiresAt),
		ID:        login.ID,
	})
	t.Header["typ"] = tokenType
	return t.SignedString(l.c.Key)
}

// parse checks everything about a token that needs no store, and returns the
// login and the user it names. The algorithm, the key and the type are fixed
// here; the header of the token decides nothing (RFC 8725, section 3.1).
func (l *Logins) parse(token string) (loginID, userID string, err error) {
	if len(token) > maxToken {
		return "", "", notLoggedIn(fmt.Errorf("token of %d bytes", len(token)))
	}
	var claims jwt.RegisteredClaims
	_, err = jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(l.c.Issuer),
		jwt.WithAudience(l.c.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithTimeFunc(l.now),
		jwt.WithStrictDecoding(),
	).ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		// alg and typ and nothing more: a kid, jku, jwk, x5c or crit has no
		// meaning here, so a token that carries one is not ours.
		if len(t.Header) != 2 || t.Header["typ"] != tokenType {
			return nil, errors.New("not the header of a login token")
		}
		return l.c.Key.Public().(ed25519.PublicKey), nil
	})
	switch {
	case err != nil:
		return "", "", notLoggedIn(err)
	case !access.ValidID(access.LoginPrefix, claims.ID) || claims.Subject == "":
		return "", "", notLoggedIn(errors.New("the token names no login"))
	}
	return claims.ID, claims.Subject, nil
}
