//go:build e2e && linux

// This file has a gRPC server and a gRPC client. They speak the framing of gRPC over
// HTTP/2 with messages of any bytes.

package tls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const grpcType = "application/grpc"

// writeMessage writes a message with its length.
func writeMessage(w io.Writer, message string) error {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	_, err := w.Write(append(b, message...))
	return err
}

// readMessage reads a message. The error is io.EOF if there is none.
func readMessage(r io.Reader) (string, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return "", err
	}
	message := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	_, err := io.ReadFull(r, message)
	return string(message), err
}

// grpcGreeting is the first message of the server in a stream. It sends it before it reads.
const grpcGreeting = "the server speaks first"

// serveGRPC serves the methods Unary and Bidi. Both send each message back.
func serveGRPC(w http.ResponseWriter, r *http.Request, method string) {
	if r.ProtoMajor != 2 || r.Header.Get("Content-Type") != grpcType || r.Header.Get("TE") != "trailers" {
		http.Error(w, fmt.Sprintf("not gRPC: %s %v", r.Proto, r.Header), http.StatusUnsupportedMediaType)
		return
	}
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", grpcType)
	if method == "Bidi" {
		if writeMessage(w, grpcGreeting) != nil || control.Flush() != nil {
			return
		}
	}
	for {
		message, err := readMessage(r.Body)
		if err == io.EOF {
			break
		}
		if err != nil || writeMessage(w, message) != nil || control.Flush() != nil {
			return
		}
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", "done")
}

// grpcCall is a call in progress.
type grpcCall struct {
	send *io.PipeWriter
	resp *http.Response
}

// callGRPC begins a call. It returns when the server has sent its header.
func callGRPC(client *http.Client, url string, first ...string) (*grpcCall, error) {
	body, send := io.Pipe()
	req, err := http.NewRequest("POST", url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", grpcType)
	req.Header.Set("TE", "trailers")
	go func() {
		for _, message := range first {
			writeMessage(send, message)
		}
	}()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != grpcType {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %v: %s", resp.Status, resp.Header, text)
	}
	return &grpcCall{send, resp}, nil
}

// receive reads the next message, which must be want.
func (c *grpcCall) receive(want string) error {
	message, err := readMessage(c.resp.Body)
	if err != nil {
		return err
	}
	if message != want {
		return fmt.Errorf("message %q, want %q", message, want)
	}
	return nil
}

// finish ends the client's messages, reads the rest and checks the status.
func (c *grpcCall) finish() error {
	defer c.resp.Body.Close()
	c.send.Close()
	if message, err := readMessage(c.resp.Body); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: %q, %w", message, err)
	}
	if status, text := c.resp.Trailer.Get("Grpc-Status"), c.resp.Trailer.Get("Grpc-Message"); status != "0" || text != "done" {
		return fmt.Errorf("trailer %v, want the status 0 and the message done", c.resp.Trailer)
	}
	return nil
}

// unary makes a call with one message.
func unary(client *http.Client, url, message string) error {
	call, err := callGRPC(client, url+"/grpc.test.Echo/Unary", message)
	if err != nil {
		return err
	}
	return errors.Join(call.receive(message), call.finish())
}

// bidirectional makes a call in which the server speaks first and both sides take turns.
func bidirectional(client *http.Client, url string) error {
	call, err := callGRPC(client, url+"/grpc.test.Echo/Bidi")
	if err != nil {
		return err
	}
	if err := call.receive(grpcGreeting); err != nil {
		return err
	}
	for i := range 10 {
		message := fmt.Sprint("message ", i)
		if err := errors.Join(writeMessage(call.send, message), call.receive(message)); err != nil {
			return err
		}
	}
	return call.finish()
}
