package people

import (
	"errors"
	"fmt"
	"time"
)

// Errors of the Service. Operations of operators also return *admin.Error, and all
// methods return the store's failures, which wrap ledger.ErrUnavailable.
var (
	// ErrInvitation refuses the secret of an invitation. The invitation is unknown,
	// used, withdrawn or expired, or this person or request cannot accept it.
	ErrInvitation = errors.New("the invitation link is unknown, used or expired: ask for a new one")
	// ErrCredentials refuses a sign-in by password. It does not reveal whether the
	// person exists.
	ErrCredentials = errors.New("the e-mail address or the password is wrong")
	// ErrPasskey refuses an authenticator's response that is malformed or cannot be
	// verified.
	ErrPasskey = errors.New("the passkey was not accepted")
	// ErrCeremony means that a ceremony is unknown, has ended already, or took too
	// long.
	ErrCeremony = errors.New("this took too long or was finished before: begin again")
	// ErrSession means that a session token is unknown, or that its session has ended.
	ErrSession = errors.New("the session has ended: sign in again")
	// ErrStale refuses a change of the person's own credentials, because the session
	// began longer ago than FreshTime and no password was asked for.
	ErrStale = errors.New("sign in again to change how you sign in")
	// ErrLastCredential refuses to remove the only way to sign in.
	ErrLastCredential = errors.New("this is the only way to sign in: add another one first")
	// ErrEmailTaken refuses an e-mail address that another person has.
	ErrEmailTaken = errors.New("a person with this e-mail address exists: sign in, then open the link again")
	// ErrNoPasskeys means that passkeys are not possible: no origin is configured, or
	// its host is an IP address.
	ErrNoPasskeys = errors.New("passkeys need the address of the console: none is configured")
	// ErrNoProvider means that no OpenID provider is configured, or that it cannot be
	// reached.
	ErrNoProvider = errors.New("sign-in by the provider is not available now")
	// ErrProvider refuses a user of the provider: the response is invalid, the e-mail
	// address is not verified or not allowed, or the user cannot be connected with the
	// person.
	ErrProvider = errors.New("the provider's user was not accepted")
	// ErrRegistration refuses a self-registration: registration is closed, the code is
	// wrong, or the domain of the e-mail address is not allowed.
	ErrRegistration = errors.New("registration is closed, or the code or the e-mail address is not accepted")
)

// DelayError refuses an attempt that comes too soon after failed attempts, or too soon
// after many other attempts. The attempt's credentials were not checked.
type DelayError struct {
	Wait time.Duration // time until the next attempt is possible; more than zero
}

// Error says how long to wait, in whole seconds.
func (e *DelayError) Error() string {
	return fmt.Sprintf("too many attempts: try again in %d s", int64((e.Wait+time.Second-1)/time.Second))
}

// InputError refuses a value that a person has entered. Its message is for that person.
type InputError struct {
	Field   string // "email", "name" or "password"
	Message string
}

// Error returns the message.
func (e *InputError) Error() string { return e.Message }
