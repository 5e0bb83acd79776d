package issuer

import (
	stdjson "encoding/json"
	"reflect"
	"testing"
	"testing/quick"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/jsontext"
)

// Tokens and answers are written member by member. A member that is added to one of these types and
// forgotten there would be in none.
func TestAnswersAreWrittenAsTheirTypesSay(t *testing.T) {
	checkWritten(t, func(c accessTokenClaims) []byte { return c.written(nil) })
	checkWritten(t, tokenResponse.written)
	checkWritten(t, ClientInformation.written)
}

func checkWritten[T any](t *testing.T, written func(T) []byte) {
	t.Helper()
	same := func(v T) bool {
		want := must(stdjson.Marshal(v))
		if got := written(v); string(got) != string(want) {
			t.Errorf("%T\ngot  %s\nwant %s", v, got, want)
			return false
		}
		return true
	}
	var none T
	same(none)
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	// Each member alone: those that are left out are told apart.
	for field := range reflect.TypeFor[T]().NumField() {
		one := func(all T) bool {
			var v T
			reflect.ValueOf(&v).Elem().Field(field).Set(reflect.ValueOf(all).Field(field))
			return same(v)
		}
		if err := quick.Check(one, &quick.Config{MaxCount: 20}); err != nil {
			t.Error(err)
		}
	}
}

// A registration that is read in the short way is read as go-jose's decoder reads it, and what that
// refuses is refused.
func FuzzRegistrationIsReadAsTheDecoderReadsIt(f *testing.F) {
	for _, text := range []string{
		`{"client_name":"Claude","grant_types":["authorization_code"],"redirect_uris":["https://claude.ai/cb"],"token_endpoint_auth_method":"none"}`,
		" {\n\t\"redirect_uris\" : [ \"https://a.example/\" , \"https://b.example/\" ] ,\r\n\"tos_uri\":null,\"a\":true,\"b\":false}\n",
		`{}`, `{"redirect_uris":[]}`, `{"redirect_uris":null}`, `{"redirect_uris":"https://a.example/"}`, `{"redirect_uris":[1]}`, `{"redirect_uris":[["a"]]}`,
		`{"client_name":["a"]}`, `{"client_name":true}`, `{"client_name":null}`, `{"dpop_bound_access_tokens":true}`, `{"dpop_bound_access_tokens":"true"}`,
		`{"client_name":"a","client_name":"b"}`, `{"x":"a","x":"b"}`, `{"x":"a","\u0078":"b"}`, `{"Client_Name":"a"}`, `{"client_name":"M\u00fcller"}`, `{"client_name":"Müller"}`,
		`{"jwks":{"keys":[]},"client_name":"a"}`, `{"n":1.5e3}`, `{"client_name":"a"} x`, `{"client_name":"a"}{}`, `{"client_name":"a",}`, `{,}`, `{"a" "b"}`, `{"a":}`, `{"a":tru}`,
		`{"redirect_uris":["a",]}`, `{"redirect_uris":[,"a"]}`, `{"redirect_uris":["a" "b"]}`, "{\"a\":\"true\n,\"client_name\":\"b\"}", "{\"a\":\"[]\n,\"client_name\":\"b\"}",
		`null`, `[]`, `"a"`, ``, `{`, `{"a`, "\ufeff{}", "{\"a\":\"\x7f\"}", "{\"a\":\"\xff\"}", "\v{}", `{"":""}`, `{"a":truefalse}`, `{"a":"b""c":"d"}`,
		`{"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":"","17":"","1":""}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want ClientMetadata
		wantErr := json.Unmarshal(body, &want)
		got, err := readMetadata(body)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, and the decoder says %v", body, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, and the decoder reads %+v", body, got, want)
		}
	})
}

// What programs send is read in the short way: otherwise the test above says nothing of it.
func TestRegistrationsOfProgramsAreReadInTheShortWay(t *testing.T) {
	body := []byte(`{"client_name":"Claude","grant_types":["authorization_code","refresh_token"],"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"response_types":["code"],"scope":"claudeai","token_endpoint_auth_method":"none","client_uri":"https://claude.ai"}`)
	if _, plain := jsontext.Plain(nil, string(body)); !plain {
		t.Error("not plain")
	}
	// The text, the result, and one for each list of at most two; the decoder makes 40.
	if n := testing.AllocsPerRun(100, func() { _, _ = readMetadata(body) }); n > 5 {
		t.Errorf("%v allocations", n)
	}
}
