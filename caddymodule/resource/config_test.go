package resource

import (
	"strings"
	"testing"
)

// TestOAuthRefuses checks that a wrong OAuth config is refused with the reason, and
// that the error repeats no password.
func TestOAuthRefuses(t *testing.T) {
	for want, o := range map[string]OAuth{
		"oauth: want a resource":                {AuthorizationServers: []string{"https://auth.example.com"}},
		"oauth: resource: want a URL":           {Resource: "https://a.example:port", AuthorizationServers: []string{"https://auth.example.com"}},
		"leave the fragment out":                {Resource: "https://a.example/#", AuthorizationServers: []string{"https://auth.example.com"}},
		"leave the query out":                   {Resource: "https://a.example/?", AuthorizationServers: []string{"https://auth.example.com"}},
		"write the path without":                {Resource: "https://a.example/a//b", AuthorizationServers: []string{"https://auth.example.com"}},
		"normal form":                           {Resource: `https://a.example/"`, AuthorizationServers: []string{"https://auth.example.com"}},
		"%2F is not in its normal form":         {Resource: "https://a.example/a%2F", AuthorizationServers: []string{"https://auth.example.com"}},
		"http://10.0.0.1: want https":           {Resource: "http://10.0.0.1", AuthorizationServers: []string{"https://auth.example.com"}},
		"ftp://127.0.0.1: want https":           {Resource: "ftp://127.0.0.1", AuthorizationServers: []string{"https://auth.example.com"}},
		"authorization_servers: want a URL":     {Resource: "http://[::1]:8080", AuthorizationServers: []string{"auth.example.com"}},
		"scopes: unknown scope":                 {Resource: "http://localhost:1/", AuthorizationServers: []string{"http://127.0.0.1"}, Scopes: []string{"x"}},
		"scopes: offline_access is":             {Resource: "http://localhost:1/", AuthorizationServers: []string{"http://127.0.0.1"}, Scopes: []string{"offline_access"}},
		"documentation: want a URL":             {Resource: "http://localhost:1/", AuthorizationServers: []string{"http://127.0.0.1"}, Documentation: "docs"},
		"shown to everybody: leave the user":    {Resource: "https://alice:hunter2@a.example", AuthorizationServers: []string{"https://auth.example.com"}},
		"lower case, without the usual port":    {Resource: "http://localhost:80/mcp", AuthorizationServers: []string{"https://auth.example.com"}},
		"https://a.example:: write the host in": {Resource: "https://a.example:", AuthorizationServers: []string{"https://auth.example.com"}},
	} {
		if _, err := o.Compile("weather", nil, nil, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
