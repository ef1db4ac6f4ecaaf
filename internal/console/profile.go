package console

import (
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/people"
)

// actor returns the visitor as the actor for the audit log.
func (v *visit) actor() admin.Actor {
	return admin.Actor{Name: v.who.Person.ID, From: clientOf(v.r).Address.String()}
}

// profileData is the data of profile.html.
type profileData struct {
	Sessions []people.Session
	Current  string // id of the session that sent this request
	Provider string // name of the OpenID provider; "" without one
}

func (v *visit) profile() error {
	sessions, err := v.people.Sessions(v.ctx, v.who.Person.ID)
	if err != nil {
		return err
	}
	return v.show("profile", "profile", "Your profile", profileData{sessions, v.who.Session.ID, v.providerName()})
}

func (v *visit) setPassword() error {
	form := v.r.PostForm
	if err := v.people.SetPassword(v.ctx, v.who, form.Get("old"), form.Get("password")); err != nil {
		return err
	}
	return v.done("password", "profile")
}

func (v *visit) beginAddPasskey() error { return v.begun(v.people.BeginAddPasskey(v.ctx, v.who)) }

func (v *visit) finishAddPasskey() error {
	response, err := v.passkeyResponse()
	if err != nil {
		return err
	}
	_, err = v.people.FinishAddPasskey(v.ctx, v.who, v.readCookie(ceremonyCookie), response, "")
	return v.finished("", v.c.path("profile")+"?done=passkey", err)
}

func (v *visit) removePasskey() error {
	if err := v.people.RemovePasskey(v.ctx, v.who, v.r.PathValue("passkey")); err != nil {
		return err
	}
	return v.done("unpasskey", "profile")
}

func (v *visit) endSession() error {
	if err := v.people.EndSession(v.ctx, v.actor(), v.who.Person.ID, v.r.PathValue("session")); err != nil {
		return err
	}
	return v.done("session", "profile")
}

// endSessions ends all sessions of the visitor, including this one.
func (v *visit) endSessions() error {
	if _, err := v.people.EndSessions(v.ctx, v.actor(), v.who.Person.ID, ""); err != nil {
		return err
	}
	v.dropCookie()
	return v.done("signedout", "signin")
}
