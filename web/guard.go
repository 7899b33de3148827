package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// cookieName has the prefix with which browsers take a cookie only over TLS,
// for this host alone and for all of its paths (RFC 6265bis, section 4.1.3).
const cookieName = "__Host-drawbolt"

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// secured sets what every answer bears, refuses what another site has made a
// browser send, and keeps a panic from ending more than its own request.
func (s *Server) secured(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	if err := cross.AddTrustedOrigin(s.url); err != nil {
		panic("web: the external URL is no origin: " + err.Error()) // New has checked it
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		now := time.Now() // of the machine: deadlines are the kernel's
		// A recorder in a test has no deadlines; a connection always has.
		_ = control.SetReadDeadline(now.Add(s.bodyWithin))
		_ = control.SetWriteDeadline(now.Add(s.bodyWithin + answerWithin))
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		if s.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.c.Log.ErrorContext(r.Context(), "panic in a handler", "method", r.Method, "path", r.URL.Path, "value", v, "stack", string(debug.Stack()))
				// Whatever has been written is not the whole: the peer is to notice.
				panic(http.ErrAbortHandler)
			}
		}()
		if err := cross.Check(r); err != nil || s.withoutTLS(r) {
			s.fail(w, r, access.Caller{}, &access.Error{Kind: access.ErrDenied, Code: "DB-6010", Text: "another site has sent this request; nothing was changed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withoutTLS reports whether a page of our name that came without TLS, which
// anybody on the way can write, has made a browser send a change. The check of
// origins compares names only when the browser says no more; newer ones say
// Sec-Fetch-Site.
func (s *Server) withoutTLS(r *http.Request) bool {
	return s.secure && r.Method != http.MethodGet && r.Method != http.MethodHead &&
		r.Header.Get("Sec-Fetch-Site") == "" && strings.HasPrefix(r.Header.Get("Origin"), "http://")
}

// guarded is what stands before each handler: who calls, from where, how often,
// and how much.
func (s *Server) guarded(rt route, next func(http.ResponseWriter, *http.Request, access.Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by := access.Caller{Source: s.source(r), Via: "web"}
		if rt.auth == open {
			if !s.sources.allow(by.Source) || rt.costly && !s.attempts.allow(by.Source) {
				s.fail(w, r, by, &access.Error{Kind: errRate, Code: "DB-6009", Text: "too many requests from your address: wait a little", Next: "try again in a minute"})
				return
			}
		}
		if rt.auth != open {
			known, err := s.caller(r, by.Source)
			if err == nil && rt.auth == token && r.Header.Get("Authorization") == "" {
				err = errNoToken
			}
			switch {
			case err == nil && !s.persons.take(known.User.ID):
				s.fail(w, r, known, &access.Error{Kind: errRate, Code: "DB-6009", Text: "you send too many requests: wait a little"})
				return
			case errors.Is(err, access.ErrUnauthenticated) && !s.sources.allow(by.Source):
				s.fail(w, r, by, &access.Error{Kind: errRate, Code: "DB-6009", Text: "too many requests from your address: wait a little"})
				return
			case err == nil:
				by = known
			case rt.page != nil && rt.auth == login && errors.Is(err, access.ErrUnauthenticated):
				s.toLogin(w, r)
				return
			default:
				s.fail(w, r, by, err)
				return
			}
		}
		if err := readBody(rt, r); err != nil {
			s.fail(w, r, by, err)
			return
		}
		// The body is here. A deadline that stayed would end the context of a long
		// answer: net/http takes it for the peer's going away.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		next(w, r, by)
	}
}

// caller says who sent a request: a bearer token, or a browser's cookie, never
// both. A cookie travels by itself, so a change under one must also bear what a
// browser says of where it comes from (which secured has then checked).
func (s *Server) caller(r *http.Request, source netip.Addr) (access.Caller, error) {
	header := r.Header.Values("Authorization")
	cookies := r.CookiesNamed(cookieName)
	switch {
	case len(header) == 1 && len(cookies) == 0:
		scheme, token, _ := strings.Cut(header[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			break
		}
		return s.c.Logins.Verify(r.Context(), strings.TrimSpace(token), source, "cli")
	case len(header) == 0 && len(cookies) == 1:
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
			return access.Caller{}, &access.Error{Kind: access.ErrDenied, Code: "DB-6010", Text: "a change under a cookie must say which site it comes from"}
		}
		return s.c.Logins.Verify(r.Context(), cookies[0].Value, source, "web")
	}
	return access.Caller{}, &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4001", Text: "you are not logged in", Next: "drawbolt login " + s.url}
}

// errNoToken: a browser's cookie does not open what is for tokens.
var errNoToken = &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4001", Text: "this needs a token: a browser's login does not count here", Next: "drawbolt login"}

// readBody reads the body whole, within its limits, and checks its form: JSON
// for the API, a form for pages, nothing for what has none.
func readBody(rt route, r *http.Request) error {
	most := rt.maxBody()
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(most)+1))
	switch {
	case err != nil:
		return &access.Error{Kind: access.ErrInvalid, Code: "DB-6003", Text: "the body did not arrive whole"}
	case len(body) > most:
		return &access.Error{Kind: errLarge, Code: "DB-6007", Text: fmt.Sprintf("the body is larger than %d KiB", most>>10)}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 || rt.raw {
		return nil
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return &access.Error{Kind: access.ErrInvalid, Code: "DB-6003", Text: "this request has no body"}
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	want := "application/json"
	if rt.page != nil {
		want = "application/x-www-form-urlencoded"
	}
	if rt.upload {
		want = "multipart/form-data"
	}
	if charset := params["charset"]; err != nil || media != want || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &access.Error{Kind: errMedia, Code: "DB-6008", Text: "the body must be " + want}
	}
	if rt.page != nil {
		return nil
	}
	return checkJSON(body)
}

// fail answers with an error in the form that the asker understands.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, by access.Caller, err error) {
	p := s.problem(r, err)
	if strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/api/") {
		s.writeProblem(w, p)
		return
	}
	s.problemPage(w, r, by, p)
}

// setCookie gives the browser a login; endCookie takes it away.
func setCookie(w http.ResponseWriter, token string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", Expires: expires,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func endCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// toLogin sends a browser to the sign-in page, and from there back.
func (s *Server) toLogin(w http.ResponseWriter, r *http.Request) {
	to := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// localPath returns next when it is a path of this site, else "/". Browsers read a
// backslash as a slash and skip tabs and line feeds, so a path has none.
func localPath(next string) string {
	if len(next) > 512 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return "/"
	}
	for _, c := range next {
		if c <= ' ' || c == '\\' || c >= 0x7f {
			return "/"
		}
	}
	return next
}
