"""`python -m lightning_sae.fit_probe` is `lightning-sae fit-probe`."""

from lightning_sae.program import command

main = command("fit-probe")

if __name__ == "__main__":
    main()
