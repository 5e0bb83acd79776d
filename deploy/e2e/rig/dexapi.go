package rig

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

// DexAPI is Dex's own gRPC interface for administrators, of which the rig needs one call: too
// little for a gRPC library.
type DexAPI struct {
	t    T
	addr string
	http *http.Client
}

// NewDexAPI gives the part of Dex's configuration that opens its interface, for Options.Dex.
func NewDexAPI(t T) (*DexAPI, map[string]any) {
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	api := &DexAPI{t: t, addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t)), http: &http.Client{Transport: &http.Transport{Protocols: &h2}}}
	return api, map[string]any{"grpc": map[string]any{"addr": api.addr}}
}

// RevokeRefresh takes a person's refresh token away from the client. sub is the one of the
// id_token.
func (d *DexAPI) RevokeRefresh(sub, client string) {
	d.t.Helper()
	d.call("RevokeRefresh", protobuf(1, sub)+protobuf(2, client))
}

// protobuf encodes a field of bytes.
func protobuf(number uint64, value string) string {
	return string(append(binary.AppendUvarint([]byte{byte(number<<3 | 2)}, uint64(len(value))), value...))
}

func (d *DexAPI) call(method, message string) {
	d.t.Helper()
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, "http://"+d.addr+"/api.Dex/"+method, bytes.NewReader(frame))
	if err != nil {
		d.t.Fatalf("rig: %v", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := d.http.Do(req)
	if err != nil {
		d.t.Fatalf("rig: dex %s: %v", method, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	// The message is empty when what was asked for was there.
	if status := resp.Trailer.Get("Grpc-Status"); err != nil || status != "0" || !bytes.Equal(answer, make([]byte, 5)) {
		d.t.Fatalf("rig: dex %s: status %q %s, answer %x: %v", method, status, resp.Trailer.Get("Grpc-Message"), answer, err)
	}
}
