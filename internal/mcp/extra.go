package mcp

import (
	"errors"
	"strings"
)

// Reasons to refuse an operator's rule for a method or a notification.
var (
	errMethodName   = errors.New("a method's name is 1 to 128 of the characters A-Z a-z 0-9 _ . / -")
	errMethodItem   = errors.New("what it costs depends on what it names: use price")
	errMethodList   = errors.New("lists are free: they tell what there is, and at what price")
	errMethodBasic  = errors.New("it opens and keeps up the connection, which is free")
	errMethodStream = errors.New("it opens a stream, which ends with the key and has no answer to pay for")
	errMethodNotify = errors.New("notifications have no answer to pay for: want deny or free")
	errNotification = errors.New("only notifications are let pass unless they are denied: their names begin with notifications/")
	errNotifyBasic  = errors.New("it is one of the protocol's own notifications, which always pass")
	errMethodTask   = errors.New("tasks belong to the calls that made them")
)

// CheckMethodRule returns an error if operators may not write a rule for the method.
// Such a rule lets requests with the method pass, or sets the price of these requests.
// A name that differs from a refused one only in case is refused too, because a lax
// server could take it for the refused one.
func CheckMethodRule(method string) error {
	if !validMethodName(method) {
		return errMethodName
	}
	name := strings.ToLower(method)
	m := lookupMethod(name)
	switch {
	case IsNotification(name):
		return errMethodNotify
	case strings.HasPrefix(name, "tasks/"):
		return errMethodTask
	case m == nil, m.Rules:
		return nil
	case m.Item:
		return errMethodItem
	case m.Lists != 0:
		return errMethodList
	case m.Streams:
		return errMethodStream
	}
	return errMethodBasic
}

// CheckNotificationRule returns an error if operators may not write a rule for the
// client notification with the given name. Such a rule passes or denies the
// notification. If many is true, the rule is for all notifications with names that
// begin with the given name.
func CheckNotificationRule(name string, many bool) error {
	switch {
	case !validMethodName(name):
		return errMethodName
	case !IsNotification(name):
		return errNotification
	case many:
		return nil
	case name == notificationPrefix:
		return errMethodName
	}
	for _, era := range []Era{EraSession, EraStateless} {
		if KnownMethod(era, &Message{Kind: KindNotification, Method: name}) {
			return errNotifyBasic
		}
	}
	return nil
}

// maxMethodName bounds the method name in a rule, in bytes.
const maxMethodName = 128

// validMethodName reports whether a rule may use the name. It allows the characters
// that occur in the method names of the protocol and its extensions.
func validMethodName(name string) bool {
	if name == "" || len(name) > maxMethodName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '.', c == '/', c == '-':
		default:
			return false
		}
	}
	return true
}
