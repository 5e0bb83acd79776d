package metrics

import (
	"slices"
	"testing"
)

func TestProductsAreThoseOfTheTable(t *testing.T) {
	var want []string
	for _, k := range known {
		want = append(want, k.product)
	}
	if want = append(want, Other); !slices.Equal(products, want) {
		t.Errorf("products are %q, and the table has %q", products, want)
	}
}
