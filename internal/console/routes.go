package console

import "net/http"

// route is one method of one path of the console.
type route struct {
	method string
	path   string // pattern of http.ServeMux, below the base of the console
	need   need
	object object // kind of thing that {id} identifies
	serve  func(*visit) error
	form   func(*visit) error // the page with the form that this route receives; nil for other routes
}

// routes lists all routes. TestRoutes requests each of them with each role.
var routes = []route{
	{http.MethodGet, "/signin", anybody, noObject, (*visit).signInPage, nil},
	{http.MethodPost, "/signin", anybody, noObject, (*visit).signIn, (*visit).signInPage},
	{http.MethodPost, "/signin/passkey/begin", anybody, noObject, (*visit).beginSignIn, nil},
	{http.MethodPost, "/signin/passkey/finish", anybody, noObject, (*visit).finishSignIn, nil},
	{http.MethodGet, "/signin/provider", anybody, noObject, (*visit).beginProvider, nil},
	{http.MethodGet, "/signin/callback", anybody, noObject, (*visit).finishProvider, nil},
	{http.MethodGet, "/register", anybody, noObject, (*visit).registerPage, nil},
	{http.MethodPost, "/register", anybody, noObject, (*visit).register, (*visit).registerPage},
	{http.MethodGet, "/invite/{secret}", anybody, noObject, (*visit).invitePage, nil},
	{http.MethodPost, "/invite/{secret}", anybody, noObject, (*visit).accept, (*visit).invitePage},
	{http.MethodPost, "/invite/{secret}/passkey/begin", anybody, noObject, (*visit).beginAccept, nil},
	{http.MethodPost, "/invite/{secret}/passkey/finish", anybody, noObject, (*visit).finishAccept, nil},
	{http.MethodPost, "/invite/{secret}/join", signedIn, noObject, (*visit).join, (*visit).invitePage},
	{http.MethodPost, "/signout", signedIn, noObject, (*visit).signOut, nil},

	{http.MethodGet, "/{$}", signedIn, noObject, (*visit).overview, nil},
	{http.MethodGet, "/profile", signedIn, noObject, (*visit).profile, nil},
	{http.MethodPost, "/profile/password", signedIn, noObject, (*visit).setPassword, (*visit).profile},
	{http.MethodPost, "/profile/passkey/begin", signedIn, noObject, (*visit).beginAddPasskey, nil},
	{http.MethodPost, "/profile/passkey/finish", signedIn, noObject, (*visit).finishAddPasskey, nil},
	{http.MethodPost, "/profile/passkeys/{passkey}/remove", signedIn, noObject, (*visit).removePasskey, (*visit).profile},
	{http.MethodPost, "/profile/provider/remove", signedIn, noObject, (*visit).disconnectProvider, (*visit).profile},
	{http.MethodPost, "/profile/sessions/{session}/end", signedIn, noObject, (*visit).endSession, (*visit).profile},
	{http.MethodPost, "/profile/sessions/end", signedIn, noObject, (*visit).endSessions, (*visit).profile},

	{http.MethodGet, "/receipt", signedIn, noObject, (*visit).receiptPage, nil},
	{http.MethodPost, "/receipt", signedIn, noObject, (*visit).checkReceipt, (*visit).receiptPage},

	{http.MethodGet, "/accounts", operators, noObject, (*visit).accounts, nil},
	{http.MethodPost, "/accounts", operators, noObject, (*visit).createAccount, (*visit).accounts},
	{http.MethodGet, "/accounts/{id}", reader, anAccount, (*visit).accountPage, nil},
	{http.MethodPost, "/accounts/{id}/credits", operators, anAccount, (*visit).credit, (*visit).accountPage},
	{http.MethodPost, "/accounts/{id}/adjustments", operators, anAccount, (*visit).adjust, (*visit).accountPage},
	{http.MethodPost, "/accounts/{id}/limits", operators, anAccount, (*visit).limit, (*visit).accountPage},
	{http.MethodGet, "/accounts/{id}/people", reader, anAccount, (*visit).membersPage, nil},
	{http.MethodPost, "/accounts/{id}/people", owner, anAccount, (*visit).inviteMember, (*visit).membersPage},
	{http.MethodPost, "/accounts/{id}/people/{invitation}/withdraw", owner, anAccount, (*visit).withdrawMember, (*visit).membersPage},

	{http.MethodGet, "/keys", operators, noObject, (*visit).keys, nil},
	{http.MethodGet, "/accounts/{id}/keys", reader, anAccount, (*visit).keys, nil},
	{http.MethodGet, "/accounts/{id}/keys/new", owner, anAccount, (*visit).newKeyPage, nil},
	{http.MethodPost, "/accounts/{id}/keys", owner, anAccount, (*visit).createKey, (*visit).newKeyPage},
	{http.MethodGet, "/keys/{id}", reader, aKey, (*visit).keyPage, nil},
	{http.MethodPost, "/keys/{id}", owner, aKey, (*visit).updateKey, (*visit).keyPage},
	{http.MethodPost, "/keys/{id}/rotate", owner, aKey, (*visit).rotateKey, (*visit).keyPage},
	{http.MethodPost, "/keys/{id}/disable", owner, aKey, (*visit).disableKey, (*visit).keyPage},
	{http.MethodPost, "/keys/{id}/enable", owner, aKey, (*visit).enableKey, (*visit).keyPage},
	{http.MethodPost, "/keys/{id}/delete", owner, aKey, (*visit).deleteKey, (*visit).keyPage},

	{http.MethodGet, "/grants", operators, noObject, (*visit).grants, nil},
	{http.MethodGet, "/accounts/{id}/grants", reader, anAccount, (*visit).grants, nil},
	{http.MethodGet, "/grants/{id}", reader, aGrant, (*visit).grantPage, nil},
	{http.MethodPost, "/grants/{id}/revoke", owner, aGrant, (*visit).revokeGrant, (*visit).grantPage},

	{http.MethodGet, "/connect", signedIn, noObject, (*visit).consentPage, nil},
	{http.MethodPost, "/connect", signedIn, noObject, (*visit).consent, (*visit).consentPage},

	{http.MethodGet, "/charges", operators, noObject, (*visit).charges, nil},
	{http.MethodGet, "/accounts/{id}/charges", reader, anAccount, (*visit).charges, nil},
	{http.MethodGet, "/charges/{id}", reader, aCharge, (*visit).chargePage, nil},
	{http.MethodPost, "/charges/{id}/refunds", operators, aCharge, (*visit).refund, (*visit).chargePage},
	{http.MethodGet, "/charges.csv", operators, noObject, (*visit).exportCharges, nil},
	{http.MethodGet, "/accounts/{id}/charges.csv", reader, anAccount, (*visit).exportCharges, nil},

	{http.MethodGet, "/calls", operators, noObject, (*visit).calls, nil},
	{http.MethodGet, "/accounts/{id}/calls", reader, anAccount, (*visit).calls, nil},
	{http.MethodGet, "/calls.csv", operators, noObject, (*visit).exportCalls, nil},
	{http.MethodGet, "/accounts/{id}/calls.csv", reader, anAccount, (*visit).exportCalls, nil},

	{http.MethodGet, "/usage", operators, noObject, (*visit).usage, nil},
	{http.MethodGet, "/usage.csv", operators, noObject, (*visit).exportUsage, nil},
	{http.MethodGet, "/usage.json", operators, noObject, (*visit).exportUsage, nil},
	{http.MethodGet, "/accounts/{id}/usage", reader, anAccount, (*visit).usage, nil},
	{http.MethodGet, "/accounts/{id}/usage.csv", reader, anAccount, (*visit).exportUsage, nil},
	{http.MethodGet, "/accounts/{id}/usage.json", reader, anAccount, (*visit).exportUsage, nil},
	{http.MethodGet, "/accounts/{id}/statement", reader, anAccount, (*visit).statement, nil},

	{http.MethodGet, "/servers", operators, noObject, (*visit).servers, nil},
	{http.MethodGet, "/servers/{server}", operators, noObject, (*visit).serverPage, nil},
	{http.MethodPost, "/servers/{server}/check", operators, noObject, (*visit).checkServer, (*visit).serverPage},

	{http.MethodGet, "/alerts", operators, noObject, (*visit).alerts, nil},
	{http.MethodPost, "/alerts/test", operators, noObject, (*visit).testAlerts, (*visit).alerts},
	{http.MethodGet, "/accounts/{id}/alerts", reader, anAccount, (*visit).alerts, nil},
	{http.MethodPost, "/accounts/{id}/alerts", owner, anAccount, (*visit).setAlerts, (*visit).alerts},

	{http.MethodGet, "/audit", operators, noObject, (*visit).audit, nil},
	{http.MethodGet, "/ledger", operators, noObject, (*visit).ledger, nil},
	{http.MethodPost, "/ledger/verify", operators, noObject, (*visit).verify, (*visit).ledger},
	{http.MethodGet, "/health", operators, noObject, (*visit).health, nil},

	{http.MethodGet, "/people", operators, noObject, (*visit).persons, nil},
	{http.MethodPost, "/people", operators, noObject, (*visit).invitePerson, (*visit).persons},
	{http.MethodGet, "/people/{person}", operators, noObject, (*visit).personPage, nil},
	{http.MethodPost, "/people/{person}/accounts", operators, noObject, (*visit).setMembership, (*visit).personPage},
	{http.MethodPost, "/people/{person}/disable", operators, noObject, (*visit).disablePerson, (*visit).personPage},
	{http.MethodPost, "/people/{person}/enable", operators, noObject, (*visit).enablePerson, (*visit).personPage},
	{http.MethodPost, "/people/{person}/remove", operators, noObject, (*visit).removePerson, (*visit).personPage},
	{http.MethodPost, "/people/{person}/recover", operators, noObject, (*visit).recoverPerson, (*visit).personPage},
	{http.MethodPost, "/people/{person}/sessions/end", operators, noObject, (*visit).endSessionsOf, (*visit).personPage},
	{http.MethodPost, "/invitations/{invitation}/withdraw", operators, noObject, (*visit).withdraw, (*visit).persons},
}
