package mcp

import (
	"errors"
	"strings"
	"testing"
)

// TestCheckMethodRule checks that an operator may put a rule on extension methods and
// on the few protocol methods that allow a rule. Every other protocol method is
// refused, in upper or lower case, because the gateway decides about such a method by
// other means.
func TestCheckMethodRule(t *testing.T) {
	for method, want := range map[string]error{
		"vendor/thing": nil, "com.example-1/do_it": nil, "completion/complete": nil, "logging/setLevel": nil,
		"resources/subscribe": nil, "tools/callback": nil, "prompts": nil,
		"": errMethodName, "vendor/thing ": errMethodName, "vendor:thing": errMethodName, strings.Repeat("m", 129): errMethodName,
		"tools/call": errMethodItem, "Tools/Call": errMethodItem, "prompts/get": errMethodItem, "resources/read": errMethodItem,
		"tools/list": errMethodList, "prompts/list": errMethodList, "resources/list": errMethodList, "resources/templates/list": errMethodList,
		"initialize": errMethodBasic, "PING": errMethodBasic, "server/discover": errMethodBasic, "subscriptions/listen": errMethodStream,
		"notifications/cancelled": errMethodNotify, "notifications/vendor": errMethodNotify,
		"tasks/get": errMethodTask, "tasks/list": errMethodTask, "Tasks/anything": errMethodTask,
	} {
		if err := CheckMethodRule(method); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", method, err, want)
		}
	}
}
