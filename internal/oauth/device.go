package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of the device flow (RFC 8628).
const (
	// DeviceLife is how long a person has time to enter a user code.
	DeviceLife = 10 * time.Minute
	// PollEvery is the shortest time between two requests of a device for its tokens.
	PollEvery = 5 * time.Second
	// maxDevices bounds the devices that wait for a person, because anybody can begin.
	maxDevices = 10_000
)

// userCodeLetters are the letters of user codes. Vowels are left out, so that no code is
// a word (RFC 8628, section 6.1).
const userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"

// userCodeLength is the number of letters of a user code. They have 34 bits: within
// DeviceLife, a guesser with a limited rate of attempts finds no code.
const userCodeLength = 8

// Device is the answer to a device authorization request.
type Device struct {
	DeviceCode string
	UserCode   string // with a dash in the middle
}

// BeginDevice starts the flow of a client without a browser.
func (s *Service) BeginDevice(ctx context.Context, a Authorization) (Device, error) {
	d := Device{DeviceCode: random("fbd_"), UserCode: newUserCode()}
	now := s.o.Now()
	a.Grant, a.RedirectURI, a.Challenge, a.ExpiresAt, a.UserCode = "", "", "", now.Add(DeviceLife), userDigest(d.UserCode)
	err := s.store.Change(ctx, func(tx Tx) error {
		if _, err := tx.DeleteAuthorizationsBefore(now.Add(-ReplayTime)); err != nil {
			return err
		}
		if n, err := tx.CountDevices(now); err != nil {
			return err
		} else if n >= maxDevices {
			return Refuse(Unavailable, "too many devices wait: try again in some minutes")
		}
		return tx.InsertAuthorization(&a, DigestOf(d.DeviceCode))
	})
	return d, err
}

func newUserCode() string {
	code := make([]byte, 0, userCodeLength+1)
	for len(code) < userCodeLength+1 {
		if len(code) == userCodeLength/2 {
			code = append(code, '-')
		}
		var b [1]byte
		rand.Read(b[:])
		if limit := 256 - 256%len(userCodeLetters); int(b[0]) < limit {
			code = append(code, userCodeLetters[int(b[0])%len(userCodeLetters)])
		}
	}
	return string(code)
}

// userDigest returns the digest of a user code as a person has typed it: in any case,
// with or without dashes and spaces.
func userDigest(typed string) Digest {
	letters := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	return DigestOf("user code " + letters)
}

// DeviceOf returns the authorization that waits for the user code. Errors: an *Error with
// the code ExpiredToken.
func (s *Service) DeviceOf(ctx context.Context, userCode string) (a Authorization, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		a, _, err = tx.AuthorizationByUserCode(userDigest(userCode))
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) || err == nil && (a.Grant != "" || a.Denied || !s.o.Now().Before(a.ExpiresAt)) {
		return a, Refuse(ExpiredToken, "no device waits for this code: check the code, or begin again at the device")
	}
	return a, err
}

// AnswerDevice gives the device that waits for the user code its grant. With grant "" the
// device is refused.
func (s *Service) AnswerDevice(ctx context.Context, userCode, grant string, scopes []string) error {
	return s.store.Change(ctx, func(tx Tx) error {
		a, d, err := tx.AuthorizationByUserCode(userDigest(userCode))
		if errors.Is(err, ledger.ErrNotFound) || err == nil && (a.Grant != "" || a.Denied || !s.o.Now().Before(a.ExpiresAt)) {
			return Refuse(ExpiredToken, "no device waits for this code: check the code, or begin again at the device")
		}
		if err != nil {
			return err
		}
		if grant != "" {
			g, err := tx.Grant(grant)
			if err != nil {
				return err
			}
			if g.Client != a.Client || g.Server != a.Server || !containsAll(g.Scopes, scopes) {
				return Refuse(InvalidRequest, "the grant is not for this device: it has another client or server, or fewer scopes")
			}
		}
		a.Grant, a.Scopes, a.Denied = grant, scopes, grant == ""
		return tx.UpdateAuthorization(&a, d)
	})
}

// PollDevice issues the tokens of a device after a person has entered its user code (RFC
// 8628, section 3.4). Until then it returns an *Error with the code Pending, or SlowDown
// if the device asks too often.
func (s *Service) PollDevice(ctx context.Context, c Client, deviceCode string, lives Lives) (Tokens, error) {
	var a Authorization
	var answer error
	digest, replayed := DigestOf(deviceCode), false
	err := s.store.Change(ctx, func(tx Tx) (err error) {
		answer, replayed = nil, false
		a, err = tx.Authorization(digest)
		now := s.o.Now()
		switch {
		case errors.Is(err, ledger.ErrNotFound) || err == nil && (a.UserCode == Digest{} || a.Client != c.ID || a.Server != c.Server):
			return Refuse(InvalidGrant, "there is no such device code for this client")
		case err != nil:
			return err
		case !a.UsedAt.IsZero():
			replayed = true
			return s.revoke(tx, c.Actor, a.Grant, "a device code was used twice")
		case a.Denied:
			return Refuse(AccessDenied, "a person has refused this device")
		case !now.Before(a.ExpiresAt):
			return Refuse(ExpiredToken, "nobody has entered the user code in time")
		case a.Grant == "":
			answer = Refuse(Pending, "nobody has entered the user code yet")
			if now.Before(a.PolledAt.Add(PollEvery)) {
				answer = Refuse(SlowDown, "ask at most every 5 seconds")
			}
			a.PolledAt = now
			return tx.UpdateAuthorization(&a, digest)
		}
		a.UsedAt = now
		return tx.UpdateAuthorization(&a, digest)
	})
	if err == nil && replayed {
		err = s.finish(ctx, c.Actor, a.Grant, Refuse(InvalidGrant, "the device code was used before"))
	}
	if err = errors.Join(err, answer); err != nil {
		return Tokens{}, err
	}
	return s.issueFirst(ctx, c, a.Grant, a.Scopes, lives)
}
