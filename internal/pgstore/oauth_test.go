//go:build unix

package pgstore

import (
	"fmt"
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

// TestOAuthOnTwoNodes checks the tokens of two nodes at one database. Eight refreshes with
// one token, at both nodes, get the same pair. Refreshes that race with the deletion of the
// key leave no live token.
func TestOAuthOnTwoNodes(t *testing.T) {
	list, _ := nodes(t, 2)
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	settings := func() *admin.Settings { return new(admin.Settings) }
	var services []*oauth.Service
	var accounts []*admin.Service
	for _, s := range list {
		a := admin.New(s, nil, settings, now)
		o := oauth.New(oauthstore.New(s.Rows()), oauth.Options{Now: now, Keys: a, Secrets: func() *keys.Format { return &keys.DefaultFormat }})
		services, accounts = append(services, o), append(accounts, a.WithGrants(o))
	}
	actor, lives := admin.Actor{Name: "test"}, oauth.Lives{Access: time.Hour, Refresh: 24 * time.Hour}
	client := oauth.Client{ID: "client", Server: "weather", Actor: actor, Refreshes: true}
	if _, err := accounts[0].CreateAccount(t.Context(), actor, admin.NewAccount{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	dead := func(secret string) bool {
		k, err := list[1].KeyByDigest(t.Context(), keys.DigestOf(secret))
		return err != nil || k.Check(now(), keys.Use{}) != nil
	}
	for range 10 {
		agent, _, err := accounts[0].CreateKey(t.Context(), actor, admin.NewKey{Account: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		g, err := services[0].Approve(t.Context(), actor, oauth.Consent{Client: client.ID, Server: client.Server, Key: agent.ID})
		if err != nil {
			t.Fatal(err)
		}
		d, err := services[0].BeginDevice(t.Context(), oauth.Authorization{Client: client.ID, Server: client.Server})
		if err != nil {
			t.Fatal(err)
		}
		if err := services[1].AnswerDevice(t.Context(), d.UserCode, g.ID, nil); err != nil {
			t.Fatal(err)
		}
		first, err := services[0].PollDevice(t.Context(), client, d.DeviceCode, lives)
		if err != nil {
			t.Fatal(err)
		}
		var all [8]oauth.Tokens
		together(len(all), func(i int) {
			var err error
			if all[i], err = services[i%2].Refresh(t.Context(), client, first.Refresh, nil, lives); err != nil {
				t.Error(err)
			}
		})
		for _, tokens := range all {
			if tokens.Access != all[0].Access || tokens.Refresh != all[0].Refresh || dead(tokens.Access) {
				t.Fatal("the pairs differ, or are dead")
			}
		}
		var last [4]oauth.Tokens
		together(len(last)+1, func(i int) {
			if i == len(last) {
				if _, err := accounts[1].DeleteKey(t.Context(), actor, agent.ID); err != nil {
					t.Error(err)
				}
				return
			}
			last[i], _ = services[i%2].Refresh(t.Context(), client, all[0].Refresh, nil, lives)
		})
		for _, tokens := range append(all[:], append(last[:], first)...) {
			if tokens.Access != "" && !dead(tokens.Access) {
				t.Fatal("a token is alive")
			}
		}
	}
}

// TestOAuthReadsIndexes checks on a large table that the statements that run for each
// request, and those that run every few seconds, find their rows by an index.
func TestOAuthReadsIndexes(t *testing.T) {
	list, _ := nodes(t, 1)
	rows := list[0].Rows()
	run := func(statement string, args ...any) {
		t.Helper()
		if err := rows.Change(t.Context(), func(c sqltx.Conn) error { _, err := c.Exec(statement, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	run(`INSERT INTO oauth_grant (id, account, environment, server, client, client_name, host, scopes, limits, lineage, agent_key, person, created_at, expires_at, revoked_at, ended_at, reason)
		SELECT 'grant_' || i, 'acct_' || i % 100, 'live', 's', 'c' || i % 100, '', '', '[]', '', '', CASE WHEN i % 2 = 0 THEN 'key_' || i ELSE '' END, CASE WHEN i % 2 = 1 THEN 'psn_' || i ELSE '' END,
		1, 0, CASE WHEN i % 10 > 0 THEN 1 ELSE 0 END, CASE WHEN i % 10 > 0 THEN 2 ELSE 0 END, '' FROM generate_series(1, 20000) i`)
	run(`INSERT INTO oauth_token (id, digest, owner, kind, method, seed, used_at, expires_at, access_id, refresh_id)
		SELECT 'key_' || i, sha256(i::text::bytea), 'grant_' || i % 1000, 'refresh', '', '', i, i, '', '' FROM generate_series(1, 20000) i`)
	run(`INSERT INTO oauth_authorization (digest, owner, client, server, redirect_uri, challenge, scopes, user_code, denied, expires_at, used_at, polled_at, client_name, host)
		SELECT sha256(i::text::bytea), '', '', '', '', '', '[]', CASE WHEN i % 10 = 0 THEN sha256(i::text::bytea) ELSE '' END, 0, i, 0, 0, '', '' FROM generate_series(1, 20000) i`)
	run(`ANALYZE oauth_grant, oauth_token, oauth_authorization`)
	for statement, args := range map[string][]any{
		`SELECT * FROM oauth_grant g WHERE g.n < $1 AND g.agent_key = $3 AND g.agent_key <> '' ORDER BY g.n DESC LIMIT $2`:                {int64(1) << 62, 101, "key_6"},
		`SELECT * FROM oauth_grant g WHERE g.n < $1 AND g.person = $3 AND g.person <> '' ORDER BY g.n DESC LIMIT $2`:                      {int64(1) << 62, 101, "psn_7"},
		`SELECT * FROM oauth_grant g WHERE g.revoked_at > 0 AND g.ended_at = 0 ORDER BY g.n LIMIT $1`:                                     {100},
		`SELECT * FROM oauth_token WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3`:                                                     {"grant_7", "", 100},
		`UPDATE oauth_token SET seed = $2 WHERE used_at < $1 AND length(seed) > 0`:                                                        {int64(1) << 40, []byte{}},
		`SELECT * FROM oauth_authorization WHERE user_code = $1 AND length(user_code) > 0`:                                                {make([]byte, 32)},
		`DELETE FROM oauth_authorization WHERE expires_at < $1`:                                                                           {int64(2)},
		`SELECT id FROM oauth_token WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2`:                                               {int64(50), 100},
		`SELECT * FROM oauth_grant g JOIN key k ON k.id = g.agent_key WHERE g.revoked_at = 0 AND g.agent_key <> '' ORDER BY g.n LIMIT $1`: {100},
	} {
		var plan strings.Builder
		err := rows.Change(t.Context(), func(c sqltx.Conn) error {
			return c.Query(func(scan func(...any) error) error {
				var line string
				err := scan(&line)
				fmt.Fprintln(&plan, line)
				return err
			}, `EXPLAIN `+statement, args...)
		})
		if err != nil {
			t.Errorf("%s: %v", statement, err)
		} else if strings.Contains(plan.String(), "Seq Scan on oauth") {
			t.Errorf("%s\n%s", statement, plan.String())
		}
	}
}
