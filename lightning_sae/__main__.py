"""`python -m lightning_sae` is `lightning-sae`."""

from lightning_sae.program import main

if __name__ == "__main__":
    main()
