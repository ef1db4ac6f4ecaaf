package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// bulkTool is the tool that answers with an event stream. The length of the stream is
// the tool's argument "bytes".
const bulkTool = "export_archive"

// The sizes of the measurements of streams.
const (
	bulkBytes   = 1 << 30 // size of the long result
	slowReaders = 64
	slowBytes   = 8 << 20 // size of the result of each client that reads slowly
	slowPause   = 20 * time.Millisecond
	perAccount  = 50 // number of idle streams that each account opens
)

// streamsReport is the outcome of measuring streams, as in streams.json.
type streamsReport struct {
	Begin   time.Time    `json:"begin"`
	Machine machineFacts `json:"machine"`
	Streams int          `json:"streams"`
	Seconds float64      `json:"seconds"`
	Rows    []streamRow  `json:"rows"`
}

// streamRow is the outcome for one gateway.
type streamRow struct {
	Name     string  `json:"name"`
	IdleKiB  float64 `json:"idle_kib_each"`       // resident memory of the gateway for an idle stream
	IdleCPU  float64 `json:"idle_us_per_second"`  // CPU time of the gateway for an idle stream and second
	BulkMiB  float64 `json:"bulk_mib"`            // growth of the gateway's memory during the long result
	BulkRate float64 `json:"bulk_mib_per_second"` // the rate at which the long result arrived
	SlowMiB  float64 `json:"slow_mib"`            // growth of the gateway's memory while many clients read results slowly
}

// measureStreams measures event streams through plain Caddy and through Farebox.
func measureStreams(ctx context.Context, o options, out io.Writer) (err error) {
	list, err := selectRows("caddy_stream,stream")
	if err != nil {
		return err
	}
	s, err := newStand(ctx, o, list)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	r := streamsReport{Begin: clock.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, o.nginx), Streams: o.streams, Seconds: o.seconds}
	for _, row := range list {
		m := &streamMeter{stand: s, row: row, options: o}
		got, err := m.measure(ctx)
		if err != nil {
			return fmt.Errorf("row %s: %w", row.name, err)
		}
		r.Rows = append(r.Rows, got)
		fmt.Fprintf(out, "%s is measured\n", row.name)
	}
	if err := r.writeText(out); err != nil {
		return err
	}
	return r.save(o.out)
}

// streamMeter measures the streams of one gateway.
type streamMeter struct {
	options
	stand *stand
	row   row
}

func (m *streamMeter) measure(ctx context.Context) (streamRow, error) {
	got := streamRow{Name: m.row.name}
	var err error
	if got.IdleKiB, got.IdleCPU, err = m.idle(ctx); err != nil {
		return got, fmt.Errorf("idle streams: %w", err)
	}
	began := clock.Now()
	if got.BulkMiB, err = m.grows(ctx, 1, bulkBytes, 0); err != nil {
		return got, fmt.Errorf("a long result: %w", err)
	}
	got.BulkRate = bulkBytes / float64(1<<20) / clock.Since(began).Seconds()
	if got.SlowMiB, err = m.grows(ctx, slowReaders, slowBytes, slowPause); err != nil {
		return got, fmt.Errorf("slow readers: %w", err)
	}
	return got, nil
}

// token returns a token for the gateway. On Farebox, the token is the key of a new
// account.
func (m *streamMeter) token(ctx context.Context) (string, error) {
	srv := m.stand.servers[m.row.server]
	if srv.accounts == nil {
		return m.stand.token, nil
	}
	a, err := srv.accounts.fresh(ctx)
	if err != nil {
		return "", err
	}
	return a.secret, nil
}

// idle opens the streams, and returns the memory and the CPU time that each costs.
func (m *streamMeter) idle(ctx context.Context) (kib, cpu float64, err error) {
	pid := m.stand.servers[m.row.server].pid
	before, err := resident(pid)
	if err != nil {
		return 0, 0, err
	}
	conns := make([]net.Conn, 0, m.streams)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	token := ""
	for i := range m.streams {
		if i%perAccount == 0 {
			if token, err = m.token(ctx); err != nil {
				return 0, 0, err
			}
		}
		conn, err := openStream(ctx, m.stand.address(m.row), token)
		if err != nil {
			return 0, 0, fmt.Errorf("stream %d: %w", i+1, err)
		}
		conns = append(conns, conn)
	}
	watch := map[string]watched{gatewayRole: {pid: pid}}
	start, err := cpuTimes(procDir, watch)
	if err != nil {
		return 0, 0, err
	}
	if err := clock.Sleep(ctx, m.duration()); err != nil {
		return 0, 0, err
	}
	end, err := cpuTimes(procDir, watch)
	if err != nil {
		return 0, 0, err
	}
	after, err := resident(pid)
	n := float64(m.streams)
	return float64(after-before) / 1024 / n, float64((end[gatewayRole] - start[gatewayRole]).Microseconds()) / m.seconds / n, err
}

// openStream opens an event stream by GET, and returns its connection once the status of
// the response has arrived.
func openStream(ctx context.Context, address, token string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET /mcp HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", address, token)
	line := ""
	if err == nil {
		line, err = bufio.NewReaderSize(conn, 512).ReadString('\n')
	}
	if err == nil && !strings.Contains(line, " 200 ") {
		err = errors.New(line)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// grows makes concurrent calls of bulkTool, each with a result of the given size, and
// reads the results with a pause after each piece. It returns the largest growth of the
// gateway's memory in that time, in MiB.
func (m *streamMeter) grows(ctx context.Context, calls, size int, pause time.Duration) (float64, error) {
	pid := m.stand.servers[m.row.server].pid
	before, err := resident(pid)
	if err != nil {
		return 0, err
	}
	errs := make(chan error, calls)
	var reading sync.WaitGroup
	for i := range calls {
		token, err := m.token(ctx)
		if err != nil {
			return 0, err
		}
		reading.Go(func() { errs <- m.read(ctx, token, firstID+int64(i), size, pause) })
	}
	done := make(chan struct{})
	go func() { reading.Wait(); close(done) }()
	most := before
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-time.After(50 * time.Millisecond):
		}
		now, err := resident(pid)
		if err != nil {
			return 0, err
		}
		most = max(most, now)
	}
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(most-before) / (1 << 20), nil
}

// read makes a call and reads its result to the end.
func (m *streamMeter) read(ctx context.Context, token string, id int64, size int, pause time.Duration) error {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"bytes":%d}}}`, id, bulkTool, size)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.stand.address(m.row)+"/mcp", strings.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range (call{}).headers() {
		r.Header.Set(name, value)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, piece := 0, make([]byte, 256<<10)
	var first string
	for {
		n, err := res.Body.Read(piece)
		if got == 0 {
			first = string(piece[:min(n, 256)])
		}
		got += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if pause > 0 {
			if err := clock.Sleep(ctx, pause); err != nil {
				return err
			}
		}
	}
	if res.StatusCode != http.StatusOK || got < size {
		return fmt.Errorf("%s with %d bytes of %d: %s", res.Status, got, size, first)
	}
	return nil
}

// resident returns the resident memory of a process in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join(procDir, strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, fmt.Errorf("%w in %q", err, text)
	}
	return pages * int64(os.Getpagesize()), nil
}

func (r *streamsReport) writeText(out io.Writer) error {
	fmt.Fprintf(out, "%d idle streams for %g s; a result of %d MiB; %d slow readers of %d MiB; %s\n%s\n\n", r.Streams, r.Seconds,
		bulkBytes>>20, slowReaders, slowBytes>>20, r.Begin.Format("2006-01-02 15:04 MST"), r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "row\tidle, KiB each\tidle, µs a second each\tlong result\tmemory for it\tmemory for slow readers")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.0f MiB/s\t%.0f MiB\t%.0f MiB\n", row.Name, row.IdleKiB, row.IdleCPU, row.BulkRate, row.BulkMiB, row.SlowMiB)
	}
	return w.Flush()
}

// save writes streams.json and streams.txt into the directory, unless its name is "".
func (r *streamsReport) save(dir string) error {
	if dir == "" {
		return nil
	}
	var text bytes.Buffer
	data, err := json.MarshalIndent(r, "", "\t")
	if err := errors.Join(err, r.writeText(&text)); err != nil {
		return err
	}
	return saveFiles(dir, map[string][]byte{"streams.txt": text.Bytes(), "streams.json": append(data, '\n')})
}
