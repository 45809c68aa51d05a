"""`python -m lightning_sae.data capture` is `lightning-sae capture`; `verify` and `precision` as well."""

from lightning_sae.program import command

main = command("data")

if __name__ == "__main__":
    main()
