package issuer

import (
	"encoding/json"
	"reflect"
	"testing"
	"testing/quick"
)

// Tokens and answers are written member by member. A member that is added to one of these types and
// forgotten there would be in none.
func TestAnswersAreWrittenAsTheirTypesSay(t *testing.T) {
	checkWritten(t, accessTokenClaims.written)
	checkWritten(t, tokenResponse.written)
	checkWritten(t, ClientInformation.written)
}

func checkWritten[T any](t *testing.T, written func(T) []byte) {
	t.Helper()
	same := func(v T) bool {
		want := must(json.Marshal(v))
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
