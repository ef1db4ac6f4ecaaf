package sqlitestore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// TestRestoreEndsGrants checks that a restore ends all grants, tokens and codes. A grant
// that was revoked before keeps its reason.
func TestRestoreEndsGrants(t *testing.T) {
	dir := memoryDir(t)
	path, backup := filepath.Join(dir, "farebox.db"), filepath.Join(dir, "backup.db")
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	service := func(s *Store) (*oauth.Service, *admin.Service) {
		a := admin.New(s, nil, func() *admin.Settings { return new(admin.Settings) }, now)
		return oauth.New(oauthstore.New(s.Rows()), oauth.Options{Now: now, Keys: a, Secrets: func() *keys.Format { return &keys.DefaultFormat }}), a
	}
	s := opened(t, Options{Path: path})
	o, a := service(s)
	actor, lives := admin.Actor{Name: "test"}, oauth.Lives{Access: time.Hour, Refresh: time.Hour}
	client := oauth.Client{ID: "client", Server: "weather", Actor: actor, Refreshes: true}
	account, err := a.CreateAccount(t.Context(), actor, admin.NewAccount{Name: "alice"})
	ok(err)
	consent := oauth.Consent{Client: "client", Server: "weather", Account: account.ID, Environment: keys.Live, Person: "psn_1"}
	live, err := o.Approve(t.Context(), actor, consent)
	ok(err)
	revoked, err := o.Approve(t.Context(), actor, consent)
	ok(err)
	_, err = o.RevokeGrant(t.Context(), actor, revoked.ID)
	ok(err)
	d, err := o.BeginDevice(t.Context(), oauth.Authorization{Client: "client", Server: "weather"})
	ok(err)
	waiting, err := o.BeginDevice(t.Context(), oauth.Authorization{Client: "client", Server: "weather"})
	ok(err)
	ok(o.AnswerDevice(t.Context(), d.UserCode, live.ID, nil))
	tokens, err := o.PollDevice(t.Context(), client, d.DeviceCode, lives)
	ok(err)
	made, _ := kept(t, s, nil)
	ok(copyFile(backup, made))
	ok(s.Close())
	_, err = Restore(t.Context(), restoreOptions(path, backup))
	ok(err)
	s = opened(t, Options{Path: path})
	o, a = service(s)
	for range 2 {
		k, err := s.KeyByDigest(t.Context(), keys.DigestOf(tokens.Access))
		ok(err)
		if err := k.Check(now(), keys.Use{}); err == nil {
			t.Error("an access token is alive")
		}
		if _, err := a.EnableKey(t.Context(), actor, k.ID); err == nil {
			t.Error("an access token can be enabled")
		}
		if _, err := o.Refresh(t.Context(), client, tokens.Refresh, nil, lives); oauth.CodeOf(err) != oauth.InvalidGrant {
			t.Errorf("refresh: %v", err)
		}
		for id, reason := range map[string]string{live.ID: "the store was restored", revoked.ID: "revoked by test"} {
			if g, err := o.Grant(t.Context(), id); err != nil || g.RevokedAt.IsZero() || g.Reason != reason {
				t.Errorf("the grant is %+v, %v", g, err)
			}
		}
		if _, err := o.DeviceOf(t.Context(), waiting.UserCode); oauth.CodeOf(err) != oauth.ExpiredToken {
			t.Errorf("device: %v", err)
		}
		ok(o.Sweep(t.Context()))
	}
	if k, err := s.KeyByDigest(t.Context(), keys.DigestOf(tokens.Access)); err != nil || k.DeletedAt.IsZero() {
		t.Errorf("the sweep has not deleted the token: %v", err)
	}
	if _, err := s.KeyByDigest(t.Context(), keys.DigestOf("x")); !errors.Is(err, keys.ErrUnknown) {
		t.Error(err)
	}
}

// TestOAuthReadsIndexes checks that the statements of OAuth that run for each request, and
// those that run every few seconds, find their rows by an index.
func TestOAuthReadsIndexes(t *testing.T) {
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db")})
	for _, statement := range []string{
		`SELECT * FROM oauth_grant g WHERE g.n < $1 AND g.agent_key = $3 AND g.agent_key <> '' ORDER BY g.n DESC LIMIT $2`,
		`SELECT * FROM oauth_grant g WHERE g.n < $1 AND g.person = $3 AND g.person <> '' ORDER BY g.n DESC LIMIT $2`,
		`SELECT * FROM oauth_grant g WHERE g.n < $1 AND g.account = $3 AND g.account <> '' ORDER BY g.n DESC LIMIT $2`,
		`SELECT * FROM oauth_grant g WHERE g.revoked_at > 0 AND g.ended_at = 0 ORDER BY g.n LIMIT $1`,
		`SELECT * FROM oauth_grant g JOIN key k ON k.id = g.agent_key WHERE g.revoked_at = 0 AND g.agent_key <> ''
			AND (k.deleted_at IS NOT NULL OR k.disabled_at IS NOT NULL OR k.successor <> '') ORDER BY g.n LIMIT $1`,
		`SELECT * FROM oauth_token WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3`,
		`SELECT * FROM oauth_token WHERE owner = $1 ORDER BY id DESC LIMIT $2`,
		`UPDATE oauth_token SET seed = $2 WHERE used_at < $1 AND length(seed) > 0`,
		`SELECT * FROM oauth_authorization WHERE user_code = $1 AND length(user_code) > 0`,
		`SELECT count(*) FROM oauth_authorization WHERE expires_at > $1 AND length(user_code) > 0 AND owner = '' AND denied = 0`,
		`DELETE FROM oauth_authorization WHERE expires_at < $1`,
		`DELETE FROM key WHERE id IN (SELECT id FROM oauth_token WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2)`,
	} {
		var plan strings.Builder
		err := s.Rows().View(t.Context(), func(c sqltx.Conn) error {
			return c.Query(func(scan func(...any) error) error {
				var id, parent, unused int64
				var line string
				err := scan(&id, &parent, &unused, &line)
				fmt.Fprintln(&plan, line)
				return err
			}, `EXPLAIN QUERY PLAN `+statement, []any{1, 2, 3}[:strings.Count(statement, "$")]...)
		})
		for line := range strings.Lines(plan.String()) {
			if strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "INDEX") || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s\n%s", statement, plan.String())
			}
		}
		if plan.Len() == 0 || err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}
