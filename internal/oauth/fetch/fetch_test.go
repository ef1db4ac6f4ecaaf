package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fareboxhq/farebox/internal/clock"
)

var anyone = netip.MustParseAddr("192.0.2.9")

// TestPublic: only addresses of the public internet are public, in no way of writing an
// address of the operator's network.
func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "93.184.216.34": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"11.0.0.0": true, "128.0.0.1": true, "198.17.255.255": true, "223.255.255.255": true, "169.253.255.255": true,
		"2606:4700::1111": true, "2a00:1450:4001::1": true, "2001:4860:4860::8888": true, "2001:200::1": true,

		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "100.100.100.200": false, "100.127.255.255": false, "168.63.129.16": false,
		"192.0.0.1": false, "192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"192.88.99.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:8.8.8.8": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::808:808": false, "64:ff9b:1::1": false,
		"2002:7f00:1::": false, "2002:a00:1::1": false, "2001::1": false, "2001:0:7f00:1::": false, "2001:10::1": false, "2001:db8::1": false, "3fff::1": false,
		"fc00::1": false, "fd00:ec2::254": false, "fe80::1": false, "fe80::1%eth0": false, "2606:4700::1%eth0": false, "fec0::1": false, "ff02::1": false, "100::1": false, "5f00::1": false, "4000::1": false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("the invalid address is public")
	}
}

// server starts an HTTPS server on loopback, and returns it with the client that trusts its
// certificate.
func server(t *testing.T, o Options, handle http.HandlerFunc) (*httptest.Server, *Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(handle)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refused handshakes are no news
	s.StartTLS()
	t.Cleanup(s.Close)
	o.RootCAs = x509.NewCertPool()
	o.RootCAs.AddCert(s.Certificate())
	return s, New(o)
}

func page(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
	}
}

// TestResponses: only a complete JSON document with status 200, within the bound, is taken.
func TestResponses(t *testing.T) {
	for _, row := range []struct {
		name string
		page http.HandlerFunc
		want string // in the error; "" for none
	}{
		{"json", page("application/json", `{"a":1}`), ""},
		{"charset", page("application/json; charset=utf-8", `{"a":1}`), ""},
		{"suffix", page("application/cimd+json", `{"a":1}`), ""},
		{"full", page("application/json", strings.Repeat("x", 100)), ""},
		{"large", page("application/json", strings.Repeat("x", 101)), "more than 100 bytes"},
		{"text", page("text/plain", `{"a":1}`), "Content-Type"},
		{"html", page("text/html", `{"a":1}`), "Content-Type"},
		{"no type", page("", `{"a":1}`), "Content-Type"},
		{"404", http.NotFound, "status is 404"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "status is 204"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "status is 302"},
		{"gzip", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			page("application/json", "x")(w, r)
		}, "Content-Encoding"},
		{"short", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50")
			page("application/json", "x")(w, r)
		}, "broke off"},
		{"header", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
			page("application/json", "x")(w, r)
		}, "requesting"},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, "more than 100 bytes"},
	} {
		var elsewhere atomic.Int64
		s, c := server(t, Options{Private: true}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				elsewhere.Add(1)
			}
			row.page(w, r)
		})
		d, err := c.JSON(t.Context(), anyone, s.URL+"/doc", 100)
		switch {
		case row.want == "" && (err != nil || len(d.Body) == 0):
			t.Errorf("%s: %q, %v", row.name, d.Body, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if elsewhere.Load() > 0 {
			t.Errorf("%s: the redirect was followed", row.name)
		}
	}
}

// TestRequests: a request has nothing of this process in it but a User-Agent, and ignores
// a proxy of the environment.
func TestRequests(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	s, c := server(t, Options{Private: true}, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if name != "Accept" && name != "User-Agent" && name != "Connection" {
				t.Errorf("the request has %s: %q", name, r.Header[name])
			}
		}
		page("application/json", "{}")(w, r)
	})
	if _, err := c.JSON(t.Context(), anyone, s.URL, 100); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"http://example.com/x", "ftp://example.com/x", "https://", "https:///x", "//example.com", "https://u@example.com/", "https://exa mple.com/", ""} {
		if _, err := c.JSON(t.Context(), anyone, address, 100); err == nil {
			t.Errorf("%q was requested", address)
		}
	}
}

// TestCertificates: a server without a valid certificate for the name of the host is not
// believed.
func TestCertificates(t *testing.T) {
	s, _ := server(t, Options{}, page("application/json", "{}"))
	if _, err := New(Options{Private: true}).JSON(t.Context(), anyone, s.URL, 100); err == nil {
		t.Error("an unknown authority was believed")
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := New(Options{RootCAs: roots, Connect: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}})
	if _, err := c.JSON(t.Context(), anyone, "https://example.com/", 100); err != nil {
		t.Errorf("the name of the certificate: %v", err)
	}
	if _, err := c.JSON(t.Context(), anyone, "https://example.org/", 100); err == nil {
		t.Error("a certificate for another name was believed")
	}
}

// TestPrivateAddressesAreRefused: literal addresses of this machine and of private networks
// get no connection, in any spelling that the resolver accepts.
func TestPrivateAddressesAreRefused(t *testing.T) {
	loopback := nameServer(t, func() [4]byte { return [4]byte{127, 0, 0, 1} })
	s, c := server(t, Options{resolver: loopback}, func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "name.example.", "0x7f.1"} {
		if _, err := c.JSON(t.Context(), anyone, "https://"+host+port+"/", 100); !errors.Is(err, errPrivate) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"127.1", "2130706433", "0177.0.0.1"} { // no names for Go's resolver
		if _, err := c.JSON(t.Context(), anyone, "https://"+host+port+"/", 100); err == nil {
			t.Errorf("%s got a response", host)
		}
	}
}

// TestRebinding: a name that leads to a public address in one lookup and to this machine in
// the next one gets no connection, because the address is checked when the connection is
// made. The same holds for a name with one public address among others.
func TestRebinding(t *testing.T) {
	var arrived atomic.Int64
	s, _ := server(t, Options{}, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	var lookups atomic.Int64
	resolver := nameServer(t, func() [4]byte {
		if lookups.Add(1) == 1 {
			return [4]byte{192, 0, 2, 1} // would be public in reality; no packet is sent to it
		}
		return [4]byte{127, 0, 0, 1}
	})
	c := New(Options{Timeout: 5 * time.Second, resolver: resolver})
	addresses, err := resolver.LookupNetIP(t.Context(), "ip4", "rebinding.example.")
	if err != nil || len(addresses) != 1 || addresses[0].IsLoopback() {
		t.Fatalf("the first lookup: %v, %v", addresses, err)
	}
	if _, err := c.JSON(t.Context(), anyone, "https://rebinding.example."+port+"/", 100); !errors.Is(err, errPrivate) {
		t.Errorf("the second lookup: %v", err)
	}
	if lookups.Load() < 2 || arrived.Load() > 0 {
		t.Errorf("%d lookups, %d requests arrived", lookups.Load(), arrived.Load())
	}
}

// nameServer starts a DNS server that answers each question for an IPv4 address, and
// returns a resolver that asks the server.
func nameServer(t *testing.T, answer func() [4]byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := reply(buf[:n], answer); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func reply(query []byte, answer func() [4]byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("not a question: %w", err)
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
			Body:   &dnsmessage.AResource{A: answer()},
		}}
	}
	return m.Pack()
}

// TestTimeout: a server that does not respond holds a request no longer than the timeout.
func TestTimeout(t *testing.T) {
	gone := make(chan struct{})
	s, c := server(t, Options{Private: true, Timeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(gone)
	})
	if _, err := c.JSON(t.Context(), anyone, s.URL, 100); err == nil {
		t.Error("a response arrived")
	}
	<-gone
}

// TestInFlight: requests in flight are bounded in all, by the network that causes them, and
// by host. A slot is free again when its request ends.
func TestInFlight(t *testing.T) {
	for _, row := range []struct {
		name    string
		o       Options
		sources []string // addresses that caused the requests in flight
		refused []string
		admit   []string
	}{
		{"total", Options{InFlight: 2}, []string{"192.0.2.1", "192.0.2.2"}, []string{"192.0.2.3"}, nil},
		{"source", Options{PerSource: 2}, []string{"192.0.2.1", "192.0.2.1"}, []string{"192.0.2.1"}, []string{"192.0.2.2"}},
		{"network", Options{PerSource: 2}, []string{"2001:db8::1", "2001:db8::2"}, []string{"2001:db8::ffff:3"}, []string{"2001:db8:0:1::1"}},
		{"host", Options{PerHost: 2}, []string{"192.0.2.1", "192.0.2.2"}, []string{"192.0.2.3"}, nil},
	} {
		arrived, release := make(chan struct{}), make(chan struct{})
		row.o.Private = true
		s, c := server(t, row.o, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				arrived <- struct{}{}
				<-release
			}
			page("application/json", "{}")(w, r)
		})
		done := make(chan error)
		for _, source := range row.sources {
			go func() {
				_, err := c.JSON(context.Background(), netip.MustParseAddr(source), s.URL+"/wait", 100)
				done <- err
			}()
			<-arrived
		}
		for _, source := range row.refused {
			if _, err := c.JSON(t.Context(), netip.MustParseAddr(source), s.URL+"/", 100); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %s: %v", row.name, source, err)
			}
		}
		for _, source := range row.admit {
			if _, err := c.JSON(t.Context(), netip.MustParseAddr(source), s.URL+"/", 100); err != nil {
				t.Errorf("%s: %s: %v", row.name, source, err)
			}
		}
		close(release)
		for range row.sources {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", row.name, err)
			}
		}
		if _, err := c.JSON(t.Context(), netip.MustParseAddr(row.refused[0]), s.URL+"/", 100); err != nil {
			t.Errorf("%s: afterwards: %v", row.name, err)
		}
		if c.slots.total != 0 || len(c.slots.byName) != 0 {
			t.Errorf("%s: slots remain: %d, %v", row.name, c.slots.total, c.slots.byName)
		}
	}
}

// TestRates: one network cannot have a host flooded, nor many networks together, and all
// are served again after a while.
func TestRates(t *testing.T) {
	now := clock.Now()
	s, c := server(t, Options{Private: true, Now: func() time.Time { return now }}, page("application/json", "{}"))
	get := func(source string) error {
		_, err := c.JSON(t.Context(), netip.MustParseAddr(source), s.URL, 100)
		return err
	}
	for i := range hostBurst {
		if err := get([]string{"192.0.2.1", "192.0.2.2"}[i%2]); err != nil {
			t.Fatal(i, err)
		}
	}
	for _, source := range []string{"192.0.2.1", "192.0.2.3"} {
		if err := get(source); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", source, err)
		}
	}
	now = now.Add(hostEvery)
	if err := get("192.0.2.3"); err != nil {
		t.Error(err)
	}
}

// TestMaxAge: a response is cached as long as Cache-Control says, and no other header.
func TestMaxAge(t *testing.T) {
	for _, row := range []struct {
		control, age string
		want         time.Duration
	}{
		{"", "", -1},
		{"public", "", -1},
		{"max-age=300", "", 300 * time.Second},
		{"public, MAX-AGE=300, s-maxage=9", "", 300 * time.Second},
		{`max-age="60"`, "", time.Minute},
		{"max-age=300", "100", 200 * time.Second},
		{"max-age=300", "400", 0},
		{"max-age=300", "-5", 300 * time.Second},
		{"max-age=300, no-cache", "", 0},
		{"no-store", "", 0},
		{"max-age=-1", "", 0},
		{"max-age=x", "", 0},
		{"max-age=99999999999", "", maxSeconds * time.Second},
	} {
		h := http.Header{}
		if row.control != "" {
			h.Set("Cache-Control", row.control)
		}
		if row.age != "" {
			h.Set("Age", row.age)
		}
		if got := maxAge(h); got != row.want {
			t.Errorf("%q, Age %q: %v", row.control, row.age, got)
		}
	}
}
