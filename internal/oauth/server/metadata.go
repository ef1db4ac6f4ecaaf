package server

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// offlineAccess is the scope by which clients ask for a refresh token. Every client gets
// one, but some ask only if the metadata list the scope.
const offlineAccess = "offline_access"

// document is the metadata of an issuer (RFC 8414, section 2).
type document struct {
	Issuer                string              `json:"issuer"`
	Authorization         string              `json:"authorization_endpoint"`
	Token                 string              `json:"token_endpoint"`
	Registration          string              `json:"registration_endpoint,omitempty"`
	Revocation            string              `json:"revocation_endpoint"`
	Introspection         string              `json:"introspection_endpoint"`
	Device                string              `json:"device_authorization_endpoint"`
	Scopes                []string            `json:"scopes_supported"`
	ResponseTypes         []string            `json:"response_types_supported"`
	ResponseModes         []string            `json:"response_modes_supported"`
	GrantTypes            []string            `json:"grant_types_supported"`
	AuthMethods           []client.AuthMethod `json:"token_endpoint_auth_methods_supported"`
	SigningAlgs           []string            `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationMethods     []client.AuthMethod `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionMethods  []client.AuthMethod `json:"introspection_endpoint_auth_methods_supported"`
	ChallengeMethods      []string            `json:"code_challenge_methods_supported"`
	IssParameter          bool                `json:"authorization_response_iss_parameter_supported"`
	MetadataDocuments     bool                `json:"client_id_metadata_document_supported"`
	ProtectedResources    []string            `json:"protected_resources"`
	Subjects              []string            `json:"subject_types_supported"`               // for clients that read this as OpenID metadata
	IDTokenAlgs           []string            `json:"id_token_signing_alg_values_supported"` // the same; no id tokens are issued
	JWKS                  string              `json:"jwks_uri,omitempty"`
	RequestParameter      bool                `json:"request_parameter_supported"`
	RequestURIParameter   bool                `json:"request_uri_parameter_supported"`
	ServiceDocumentation  string              `json:"service_documentation,omitempty"`
	RequestURIRegistering bool                `json:"require_request_uri_registration"`
}

// metadata serves the metadata of the issuer.
func (x *exchange) metadata() error {
	i := x.issuer
	scopes := make([]string, 0, len(i.Scopes)+1)
	for _, s := range i.Scopes {
		scopes = append(scopes, s.Name)
	}
	registration := i.at("/register")
	if x.o.NoRegistration {
		registration = ""
	}
	body, err := json.Marshal(document{
		Registration: registration,
		Issuer:       i.URL.String(), Authorization: i.at("/authorize"), Token: i.at("/token"), Revocation: i.at("/revoke"),
		Introspection: i.at("/introspect"), Device: i.at("/device_authorization"), Scopes: append(scopes, offlineAccess),
		ResponseTypes: []string{"code"}, ResponseModes: []string{"query"},
		GrantTypes:  []string{client.GrantCode, client.GrantRefresh, client.GrantDevice, client.GrantCredentials},
		AuthMethods: client.AuthMethods, SigningAlgs: client.SigningAlgs(), RevocationMethods: client.AuthMethods, IntrospectionMethods: client.AuthMethods,
		ChallengeMethods: []string{"S256"}, IssParameter: true, MetadataDocuments: !x.o.NoDocuments, ProtectedResources: []string{i.Resource},
		Subjects: []string{"public"}, IDTokenAlgs: []string{"RS256"},
	})
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "public, max-age=300") // the metadata change with the config only
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(body) // fails only if the client has left
	return nil
}
