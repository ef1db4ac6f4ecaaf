package ops

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Stream is like Do, but for a long operation. Unless progress is nil, Stream calls
// progress(done, total) with the amount of finished work and the total.
func (c *Client) Stream(ctx context.Context, method, path string, body any, progress func(done, total int64)) (json.RawMessage, error) {
	var result json.RawMessage
	err := c.Fetch(ctx, method, path, body, progress, func(r json.RawMessage, _ io.Reader) error {
		result = r
		return nil
	})
	return result, err
}

// Fetch is like Stream, but for an operation with content after its result. receive
// gets the result and reads the content. Fetch returns an error of receive unchanged.
func (c *Client) Fetch(ctx context.Context, method, path string, body any, progress func(done, total int64), receive func(result json.RawMessage, content io.Reader) error) error {
	resp, err := c.open(ctx, method, path, body, StreamType)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != StreamType { // a refusal, or an older server's result without a stream
		answer, err := c.whole(resp)
		if err != nil {
			return err
		}
		return receive(answer, http.NoBody)
	}
	lines := bufio.NewReader(resp.Body)
	for {
		text, err := readLine(lines)
		var line StreamLine
		switch {
		case err != nil:
			return fmt.Errorf("the server broke its answer off: %w", err)
		case json.Unmarshal(text, &line) != nil:
			return errors.New("the server's answer cannot be read")
		case line.Problem != nil:
			return refusal(line.Problem)
		case line.Result != nil:
			return receive(line.Result, lines)
		case line.Progress != nil && progress != nil:
			progress(line.Progress.Done, line.Progress.Total)
		}
	}
}

// readLine reads a line of at most maxResponse bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxResponse:
			return nil, errors.New("a line is too long")
		}
	}
}
