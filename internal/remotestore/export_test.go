package remotestore

import (
	"crypto/tls"
	"crypto/x509"
)

// Trust lets a store of a test trust a test's certificates. It has asked nothing
// but its stream yet.
func Trust(s *Store, roots *x509.CertPool) {
	s.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
}
