package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"github.com/fareboxhq/farebox/internal/pgserver"
)

//go:embed templates
var templates embed.FS

var configs = template.Must(template.ParseFS(templates, "templates/*.tmpl", "templates/*.conf"))

// The roles of the processes that are measured.
const (
	clientRole   = "client"
	upstreamRole = "upstream"
	gatewayRole  = "gateway"
	authRole     = "auth"
	databaseRole = "database"
)

// stand is the set of running servers.
type stand struct {
	dir      string // the directory for configs, stores and logs
	farebox  string // the path of the Farebox binary, which is also used as plain Caddy
	nginx    string
	token    string // the token that gateways other than Farebox accept
	upstream string // the address of the upstream
	auth     string // the address of the authorization server
	pids     map[string]int
	servers  map[string]*server

	running  []*process
	database *pgserver.Server
}

// server is a running gateway.
type server struct {
	pid      int
	sites    map[string]string // the address of each site, by the name of the site
	admin    string            // the address of Caddy's admin endpoint, "" for nginx
	database int               // the process id of the server's database, 0 without a database
	accounts *accounts         // nil unless the server is a Farebox gateway
}

// settings are the values in the templates of the configs.
type settings struct {
	Dir, Admin, Upstream, Auth string
	Store                      string
	Sites                      map[string]string
	Root                       bool
	Free, Paid, Stream, Bulk   string
	Price                      string
}

// newStand starts the servers that the rows need. The caller must close the stand, also
// after an error.
func newStand(ctx context.Context, o options, list []row) (*stand, error) {
	s := &stand{farebox: o.farebox, nginx: o.nginx, token: "bench-" + fmt.Sprint(os.Getpid()), pids: make(map[string]int), servers: make(map[string]*server)}
	var err error
	if s.dir, err = os.MkdirTemp("", "farebox-bench-"); err != nil {
		return s, err
	}
	if s.upstream, err = s.startOwn(ctx, upstreamRole, asUpstream); err != nil {
		return s, err
	}
	if s.auth, err = s.startOwn(ctx, authRole, asAuth); err != nil {
		return s, err
	}
	for name, start := range map[string]func(context.Context) error{
		caddyServer: s.startCaddy, nginxServer: s.startNginx, sqliteServer: s.startOnSQLite, postgresServer: s.startOnPostgres,
	} {
		if !uses(list, name) {
			continue
		}
		if err := start(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// close ends all servers and removes their files.
func (s *stand) close() error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		errs = append(errs, s.running[i].stop())
	}
	if s.database != nil {
		errs = append(errs, s.database.Remove())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// startOwn starts this program as the upstream or the authorization server, on one
// core.
func (s *stand) startOwn(ctx context.Context, role, word string) (address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if address, err = freeAddress(); err != nil {
		return "", err
	}
	pid, err := s.start(ctx, role, address, []string{"GOMAXPROCS=1", tokenVariable + "=" + s.token}, self, word, address)
	s.pids[role] = pid
	return address, err
}

// start starts a program and waits until it answers at the address.
func (s *stand) start(ctx context.Context, name, address string, environment []string, binary string, args ...string) (pid int, err error) {
	p, err := spawn(name, s.dir, environment, binary, args...)
	if err != nil {
		return 0, err
	}
	s.running = append(s.running, p)
	return p.pid(), p.await(ctx, answers(address))
}

// prepare writes the config of a server from its template. It returns the server with
// its addresses, and the path of the config.
func (s *stand) prepare(name, config, store string, sites ...string) (srv *server, path string, err error) {
	srv = &server{sites: make(map[string]string)}
	for _, site := range sites {
		if srv.sites[site], err = freeAddress(); err != nil {
			return nil, "", err
		}
	}
	if srv.admin, err = freeAddress(); err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	err = configs.ExecuteTemplate(&text, config, settings{
		Dir: s.dir, Admin: srv.admin, Upstream: s.upstream, Auth: s.auth, Store: store, Sites: srv.sites,
		Root: os.Getuid() == 0, Free: freeTool, Paid: paidTool, Stream: streamTool, Bulk: bulkTool, Price: price.String(),
	})
	if err != nil {
		return nil, "", err
	}
	path = filepath.Join(s.dir, name+filepath.Ext(config))
	s.servers[name] = srv
	return srv, path, os.WriteFile(path, text.Bytes(), 0o600)
}

// runCaddy starts the Farebox binary with a Caddyfile.
func (s *stand) runCaddy(ctx context.Context, name, path string, srv *server, environment ...string) (err error) {
	environment = append(environment, "HOME="+s.dir, "XDG_DATA_HOME="+s.home(name), "XDG_CONFIG_HOME="+s.home(name))
	srv.pid, err = s.start(ctx, name, srv.sites[mainSite], environment, s.farebox, "run", "--config", path, "--adapter", "caddyfile")
	return err
}

func (s *stand) home(name string) string { return filepath.Join(s.dir, name+"-home") }

func (s *stand) startCaddy(ctx context.Context) error {
	srv, path, err := s.prepare(caddyServer, "caddy.tmpl", "", mainSite, authSite)
	if err != nil {
		return err
	}
	return s.runCaddy(ctx, caddyServer, path, srv)
}

func (s *stand) startNginx(ctx context.Context) error {
	srv, path, err := s.prepare(nginxServer, "nginx.conf", "", mainSite, authSite)
	if err != nil {
		return err
	}
	srv.admin = ""
	srv.pid, err = s.start(ctx, nginxServer, srv.sites[mainSite], nil, s.nginx, "-p", s.dir, "-c", path, "-e", "stderr")
	return err
}

func (s *stand) startOnSQLite(ctx context.Context) error {
	return s.startFarebox(ctx, sqliteServer, "sqlite "+filepath.Join(s.dir, "farebox.db"), nil)
}

func (s *stand) startOnPostgres(ctx context.Context) (err error) {
	const database = "farebox"
	started, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if s.database, err = pgserver.Start(started); err != nil {
		return err
	}
	if err := s.database.Exec(started, "CREATE DATABASE "+database); err != nil {
		return err
	}
	if err := s.startFarebox(ctx, postgresServer, "postgres {env.FAREBOX_DSN}", []string{"FAREBOX_DSN=" + s.database.DSN(database)}); err != nil {
		return err
	}
	s.servers[postgresServer].database, err = s.database.PID()
	return err
}

func (s *stand) startFarebox(ctx context.Context, name, store string, environment []string) error {
	srv, path, err := s.prepare(name, "farebox.tmpl", store, mainSite, limitsSite, proxySite)
	if err != nil {
		return err
	}
	if err := s.runCaddy(ctx, name, path, srv, environment...); err != nil {
		return err
	}
	srv.accounts = newAccounts(srv.admin, filepath.Join(s.home(name), "caddy", "farebox"))
	// The gateway may open its store a moment after it listens.
	return s.running[len(s.running)-1].await(ctx, srv.accounts.ready)
}

// address returns the address to which the row's calls go.
func (s *stand) address(r row) string {
	if r.server == "" {
		return s.upstream
	}
	return s.servers[r.server].sites[r.site]
}

// processes returns the processes that take part in the row's calls, by their roles.
func (s *stand) processes(r row) map[string]watched {
	list := map[string]watched{
		clientRole:   {pid: os.Getpid(), alone: true}, // this process without its descendants, because the servers are its descendants
		upstreamRole: {pid: s.pids[upstreamRole]},
	}
	if srv := s.servers[r.server]; srv != nil {
		list[gatewayRole] = watched{pid: srv.pid}
		if srv.database != 0 {
			list[databaseRole] = watched{pid: srv.database}
		}
	}
	if r.site == authSite {
		list[authRole] = watched{pid: s.pids[authRole]}
	}
	return list
}

// requireRefusal checks that the row's gateway refuses a wrong token, as otherwise the
// row would measure a gateway that lets everyone in.
func (s *stand) requireRefusal(ctx context.Context, r row) error {
	t := target{address: s.address(r), call: r.call}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url(), bytes.NewReader(r.call.appendBody(nil, firstID)))
	if err != nil {
		return err
	}
	for name, value := range r.call.headers() {
		req.Header.Set(name, value)
	}
	req.Header.Set("Authorization", "Bearer wrong")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusUnauthorized {
		err = fmt.Errorf("row %s: a wrong token got %s; want 401", r.name, resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// findNginx returns the path of nginx, or "" if it is missing. root is the root of the
// source tree, into which "tools.sh bench" may have unpacked nginx.
func findNginx(root string) string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx", filepath.Join(root, "bin", "nginx", "usr", "sbin", "nginx")} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}
