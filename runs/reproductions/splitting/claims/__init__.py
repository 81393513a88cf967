"""The claims of adaptive splitting, each judged on simulations; intervals are ranges."""
